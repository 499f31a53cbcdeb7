package main

const manual = `octroi-load follows the signed stream that an octroi gateway writes for one destination, opens each batch with the
destination's age identity, and loads its events into a folder or a PostgreSQL database: each event exactly once, over crashes, repeats and
several gateways. What the stream says later of loaded events it carries out there: who is erased goes, what was withdrawn goes from the
rows, who asked for restriction is hidden until it is lifted.

Before an entry is applied these hold: it carries the gateway's signature and follows the entry before it; its object has the hash that it
states, and age opens it with this destination's identity; a batch's columns are octroi.events.v1, and no event of the same site and id
is loaded. What fails stops that gateway's stream with nothing of the entry done, and says what to do. The other gateways' streams go on.
Run octroi-load again when it is mended. A batch is loaded from its newest object: the erased do not come back with an older one.

The folder (--into):

  events/dt=2026-11-21/hour=18/<batch>.parquet   one file a batch (or .ndjson), by the UTC hour of receipt
  .octroi-load/state.db                          what was loaded: keep it with the folder, back it up with it (about 100 bytes an event)
  .octroi-load/restricted/                       events that nobody may use while their restriction holds (GDPR Art. 18)

Files appear under their names whole. One of which rows must go is replaced by another of the same name, or removed: do not move, edit or
copy them without following that. The bytes of before may stand on the disk until they are written over, and in snapshots and backups.
The columns are described in deploy/warehouse/README.md.

The database (--into-postgres, PostgreSQL 12 or later): the file holds one line, such as

  postgres://loader:password@db.internal:5432/lake?sslmode=verify-full

The schema (--schema, default octroi) is made by the first load, and brought to the newest version by later ones; deploy/warehouse/README.md
describes its tables. The user needs CREATE and TEMPORARY on the database. Grant others SELECT on events, not on restricted. Connect to the
server itself, not through a pooler that shares connections. Until a vacuum PostgreSQL keeps the old versions of rows in its files, and as
long as you keep them in its backups and archived logs. While a batch is opened, its rows are in a file without a name below $TMPDIR.

With --ack-url and --ack-token-file the gateway is told how far entries are applied, so that its certificates can say that an erasure has
reached this destination. A failure is a warning, is tried again, and never holds up loading.

Secrets come by file (chmod 600), never by flag: the identity (age-keygen's format), the connection string, the access token and, for S3, an
AWS credentials file:

  aws_access_key_id = …
  aws_secret_access_key = …

The credentials need s3:GetObject, s3:GetObjectVersion and s3:ListBucket.

Exit codes:

  0  all that the stream has is loaded; or follow was stopped by a signal
  1  another failure, such as a full disk
  2  the command line is wrong
  3  the object store or the database is out of reach: run it again later
  4  an entry or object is missing or is not what the gateway signed: its operator must act
  5  another octroi-load uses the folder or the schema
  6  a key, the credentials, the bucket, the folder or the database is the wrong one, or was changed by others: you must act

Examples:

  load what there is, from a folder of objects:

  $ octroi-load once --from octroi-data/objects --destination warehouse \
      --identity warehouse.identity --gateway-key signing.key.pub --into loaded
  loaded 3 batches: 1204 events, 0 known before, into loaded

  follow a bucket:

  $ octroi-load follow --from s3://octroi-batches --s3-endpoint https://s3.eu-west-3.amazonaws.com --s3-region eu-west-3 \
      --s3-credentials warehouse.aws --destination warehouse --identity warehouse.identity --gateway-key signing.key.pub --into loaded

  follow it into PostgreSQL, and tell the gateway:

  $ octroi-load follow --from s3://octroi-batches --s3-endpoint https://s3.eu-west-3.amazonaws.com --s3-region eu-west-3 \
      --s3-credentials warehouse.aws --destination warehouse --identity warehouse.identity --gateway-key signing.key.pub \
      --into-postgres lake.dsn --ack-url https://octroi.internal:8081 --ack-token-file warehouse.token

  see how far it is:

  $ octroi-load status --into loaded
  destination warehouse, format parquet: 3 batches, 1204 events, 0 duplicates
  node gw1: entry 3, applied 2026-11-21T18:02:11Z
`
