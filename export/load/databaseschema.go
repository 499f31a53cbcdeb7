package load

// databaseMigrations bring the schema from one version to the next: version n is what the first n have made. Those that were released never
// change. Ids compare by bytes (COLLATE "C"): faster, and an index stays right when the operating system sorts words anew.
// deploy/warehouse/README.md describes the tables to who reads them.
var databaseMigrations = [...]string{
	`
CREATE TABLE about (
    version     integer NOT NULL,
    destination text    NOT NULL
);

-- How far each node's stream is applied; number 0: no entry was.
CREATE TABLE positions (
    node          text PRIMARY KEY,
    number        bigint NOT NULL,
    sha256        text   NOT NULL, -- of the entry
    applied_at    timestamptz,
    failed_number bigint,          -- the entry before which the stream stands still
    failure       text,
    failed_at     timestamptz
);

CREATE TABLE batches (
    batch              text COLLATE "C" PRIMARY KEY,
    node               text   NOT NULL,
    number             bigint NOT NULL, -- of the batch entry in the node's stream
    stated             bigint NOT NULL, -- of the entry that stated the object that the rows are of
    rows               bigint NOT NULL,
    duplicates         bigint NOT NULL, -- rows that another batch had brought before
    restricted         bigint NOT NULL, -- rows in the table restricted
    restricted_devices text[] NOT NULL, -- whose rows are hidden
    restricted_persons text[] NOT NULL,
    changed_at         timestamptz NOT NULL
);
CREATE INDEX batches_node ON batches (node);

CREATE TABLE events (
    event_id    text COLLATE "C" NOT NULL,
    time        timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    device      text COLLATE "C",
    person      text COLLATE "C",
    type        text NOT NULL,
    channel     text NOT NULL,
    stage       text NOT NULL,
    site        text COLLATE "C" NOT NULL,
    grants      jsonb NOT NULL,
    policy      text NOT NULL,
    campaign    text,
    source      text,
    medium      text,
    value_minor bigint,
    currency    text,
    properties  jsonb NOT NULL,
    batch       text COLLATE "C" NOT NULL,
    PRIMARY KEY (site, event_id)
);
-- By these rows are erased: those of a batch, and those of a pseudonym.
CREATE INDEX events_batch ON events (batch);
CREATE INDEX events_device ON events (device) WHERE device IS NOT NULL;
CREATE INDEX events_person ON events (person) WHERE person IS NOT NULL;

-- Rows under restriction (GDPR Art. 18): grant nobody but the loader a right on it.
CREATE TABLE restricted (LIKE events INCLUDING ALL);
REVOKE ALL ON restricted FROM PUBLIC;
`,
}
