-- A table for what octroi-load writes with --format ndjson.
CREATE TABLE IF NOT EXISTS events (
    event_id    text        NOT NULL,
    time        timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    device      text,
    person      text,
    type        text        NOT NULL,
    channel     text        NOT NULL,
    stage       text        NOT NULL,
    site        text        NOT NULL,
    grants      jsonb       NOT NULL,
    policy      text        NOT NULL,
    campaign    text,
    source      text,
    medium      text,
    value_minor bigint,
    currency    text,
    properties  jsonb       NOT NULL,
    PRIMARY KEY (site, event_id)
);

-- One file: each line is a document. The two quote characters cannot occur in JSON text, so that COPY changes nothing in a line.
-- A file loaded twice changes nothing.
CREATE TEMP TABLE line (document jsonb);
\copy line FROM 'batch.ndjson' WITH (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')
INSERT INTO events
SELECT (jsonb_populate_record(NULL::events, document)).* FROM line
ON CONFLICT DO NOTHING;

-- Events that may be used for one purpose.
SELECT type, count(*) FROM events WHERE grants @> '[{"purpose": "audience"}]' GROUP BY type;
