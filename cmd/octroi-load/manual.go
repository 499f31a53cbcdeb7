package main

const manual = `octroi-load follows the signed stream that an octroi gateway writes for one destination, opens each batch with the
destination's age identity, and writes its events into a folder: each event exactly once, over crashes, repeats and several gateways.

Before an event is written these hold: the stream entry carries the gateway's signature and follows the entry before it; the object has
the hash that the entry states; age authenticates it; its columns are octroi.events.v1; no event of the same site and id was ever
loaded into the folder. What fails stops that gateway's stream with nothing of the batch written, and says what to do. The other
gateways' streams go on. Run octroi-load again when it is mended.

The folder:

  events/dt=2026-11-21/hour=18/<batch>.parquet   one file a batch (or .ndjson), by the UTC hour of receipt
  .octroi-load/state.db                          what was loaded: keep it with the folder, back it up with it (about 100 bytes an event)

Files appear under their names whole, and are never changed. Names that begin with a dot are not yet events. The columns are described
in deploy/warehouse/README.md.

Secrets come by file, never by flag: the identity (age-keygen's format, chmod 600) and, for S3, an AWS credentials file (chmod 600):

  aws_access_key_id = …
  aws_secret_access_key = …

The credentials need s3:GetObject, s3:GetObjectVersion and s3:ListBucket.

Exit codes:

  0  all that the stream has is loaded; or follow was stopped by a signal
  1  another failure, such as a full disk
  2  the command line is wrong
  3  the object store is out of reach: run it again later
  4  an entry or object is missing or is not what the gateway signed: its operator must act
  5  another octroi-load uses the folder
  6  a key, the credentials, the bucket or the folder is the wrong one: you must act

Examples:

  load what there is, from a folder of objects:

  $ octroi-load once --from octroi-data/objects --destination warehouse \
      --identity warehouse.identity --gateway-key signing.key.pub --into loaded
  loaded 3 batches: 1204 events, 0 known before, into loaded

  follow a bucket:

  $ octroi-load follow --from s3://octroi-batches --s3-endpoint https://s3.eu-west-3.amazonaws.com --s3-region eu-west-3 \
      --s3-credentials warehouse.aws --destination warehouse --identity warehouse.identity --gateway-key signing.key.pub --into loaded

  see how far it is:

  $ octroi-load status --into loaded
  destination warehouse, format parquet: 3 batches, 1204 events, 0 duplicates
  node gw1: entry 3, applied 2026-11-21T18:02:11Z
`
