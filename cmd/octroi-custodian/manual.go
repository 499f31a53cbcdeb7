package main

const manual = `octroi-custodian carries out what data subjects ask for. It holds the identity E, which opens shipped batches, and a
signing key of its own, and runs where the internet cannot reach. The gateway, which faces the internet, holds neither: it says what
is to be done, and the custodian obeys only what it can check itself.

It obeys a request that the data protection officer approved with the approval key (octroi-custodian approve, on the officer's machine), and,
up to daily_cap a day, requests that persons made with the cookie of their device and withdrawals of consent (one that names several
pseudonyms at a destination counts for each of them). At the cap the others wait and it raises an alarm: a captured gateway can have no more than that read or wiped. Retention is cut by the custodian's own clock, as the
officer approved it (approve --retention).

Erasure: each batch concerned is read once, by version and hash; the rows of all pending requests are cut out of it together; the new
object is put, encrypted to the recipients of custodian.yaml and no others; the gateway checks and publishes it; then every
version of the former object is deleted, and listed and read to see that it is gone. What was seen is signed, at last in the certificate.
Access: the rows of the person are gathered into one package. A crash at any point is resumed by the next run.

custodian.yaml (octroi init writes it; paths are relative to it; unknown keys are errors):

  gateway: {url: https://gateway.internal:8081, node: n1, token: custody.token}
  identity: identity.txt            E, as age-keygen writes it, chmod 600
  key: custodian.key                signs reports and certificates
  signing_key: signing.key.pub      the gateway's: its stream
  log_key: log.key.pub              the gateway's: its evidence
  approval_key: approval.key.pub    the data protection officer's
  state: state                      what it remembers: back it up, it holds no personal data
  objects: {directory: ../objects}  or s3: {endpoint, region, bucket, credentials, ca, timeout}
  destinations:                     whom batches are encrypted to
    - name: warehouse
      recipients: {destination: age1…, custodian: age1…, recovery: age1…}
      former: [age1…]               recipients of older batches, until rewrap
  daily_cap: 100
  poll: 5s
  rate: 0                           bytes a second read from the store; 0: no limit

S3 credentials need s3:GetObject, s3:GetObjectVersion, s3:PutObject, s3:ListBucket, s3:ListBucketVersions, s3:DeleteObject,
s3:DeleteObjectVersion, s3:ListBucketMultipartUploads, s3:AbortMultipartUpload, s3:GetBucketVersioning and s3:GetBucketObjectLockConfiguration.

Exit codes:

  0  done; or run was stopped by a signal
  1  another failure, such as a full disk
  2  the command line is wrong, or nothing was confirmed
  3  the gateway or the object store is out of reach: run it again later
  4  something could not be done, and is said: requests that were not obeyed, batches that could not be swept
  5  another octroi-custodian uses the state folder
  6  a key, the token, the store or the configuration is the wrong one: you must act

Examples:

  is everything in place:

  $ octroi-custodian verify
  ok  configuration and keys
  ok  identity: it opens what is encrypted to the custodian
  ok  store: versions can be listed and deleted
  ok  batches: opened one of 2 of 2 destinations
  ok  gateway: n1 answers: 3 requests are open
  ok  state: it can be read

  see what is pending, then do it:

  $ octroi-custodian sweep --dry-run
  REQUEST                               RIGHT    BY      STAGE    BATCHES
  3f6b2a8e-1c4d-4e5f-8a9b-0c1d2e3f4a5b  erasure  person  rewrite  7

  OBJECT                                                                             ROWS  REQUEST     ERASED  REDUCED
  warehouse/events/dt=2026-11-21/hour=18/n1-000000000001-000000000811.1.parquet.age  811   3f6b2a8e-…  6       0
  …

  would rewrite 7 batches, read 0 more, purge 0; 84.0 MB to read; 0 batches cannot be swept

  $ octroi-custodian sweep
  1 requests: 7 batches read, 6 rewritten, 1 left empty, 0 unchanged; 41 rows erased, 0 reduced
  7 batches purged of 7 versions; 0 packages, 0 certificates; 0 batches wait

  the worker, as a service:

  $ octroi-custodian run --config /srv/octroi/custodian/custodian.yaml
`
