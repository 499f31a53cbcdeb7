-- Queries over the schema that octroi-load fills with --into-postgres: psql -f postgresql.sql
SET search_path = octroi;

-- For those who write reports. Nobody gets a right on the table restricted.
--   GRANT USAGE ON SCHEMA octroi TO analysts;
--   GRANT SELECT ON octroi.events TO analysts;

-- Events that may be used for one purpose. Begin every report with this: the grant is part of the question.
SELECT type, count(*) FROM events WHERE grants @> '[{"purpose": "audience"}]' GROUP BY type ORDER BY type;

-- Revenue by month, in minor units: integers, so that no cent is lost.
SELECT date_trunc('month', time) AS month, currency, sum(value_minor) AS minor, count(*) AS purchases
FROM events WHERE grants @> '[{"purpose": "audience"}]' AND value_minor IS NOT NULL GROUP BY month, currency ORDER BY month, currency;

-- A property.
SELECT properties ->> 'url' AS url, count(*) AS views FROM events WHERE grants @> '[{"purpose": "audience"}]' GROUP BY url ORDER BY views DESC LIMIT 20;

-- What you derive from events must follow when they change: take these batches again (changed_at moves with every entry about a batch).
SELECT batch, rows, restricted FROM batches WHERE changed_at > now() - interval '1 day' ORDER BY changed_at;

-- How far each gateway's stream is applied, and why one stands still.
SELECT node, number, applied_at, failure FROM positions ORDER BY node;

-- With many reports, an index for purposes pays: CREATE INDEX ON octroi.events USING gin (grants jsonb_path_ops);
