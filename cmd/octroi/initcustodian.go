package main

import (
	"bytes"
	"cmp"
	"path/filepath"
	"text/template"
)

// custodianTemplate is custodian.yaml: what octroi-custodian needs to run beside this gateway, on this machine.
var custodianTemplate = template.Must(template.New("custodian.yaml").Parse(`# Configuration of octroi-custodian. Paths are relative to this file. Unknown keys are errors:
# run "octroi-custodian verify --config custodian.yaml" after a change.
gateway:
  url: http://{{.Private}}   # the gateway's private listener; https on any other machine
  node: n1
  token: custody.token          # made on the gateway's machine, and again before it ends:
                                # octroi token --name custodian --scope custody --life 720h > custody.token
identity: identity.txt          # E
key: custodian.key
signing_key: signing.key.pub    # of the gateway: its stream
log_key: log.key.pub            # of the gateway: its evidence
approval_key: approval.key.pub  # of the data protection officer
state: state
objects:
  directory: {{.Objects}}
  # Or S3, with credentials that may also list and delete versions:
  # s3:
  #   endpoint: https://s3.eu-west-3.amazonaws.com
  #   bucket: octroi-events
  #   region: eu-west-3
  #   credentials: s3-credentials
destinations: # batches are rewritten to these recipients and to no others{{range .Destinations}}
  - name: {{.Name}}
    recipients:
      destination: {{.Recipients.Destination}}
      custodian: {{.Recipients.Custodian}}
      recovery: {{.Recipients.Recovery}}{{end}}
daily_cap: {{.DailyCap}} # requests a day that no data protection officer has approved
poll: 5s
`))

func (p *initPlan) writeCustodian(destinations []DestinationConfig) error {
	objects := p.objects
	if !filepath.IsAbs(objects) { // it is relative to the gateway's folder
		relative, err := filepath.Rel(custodianDir, filepath.Join(gatewayDir, objects))
		if err != nil {
			return err
		}
		objects = relative
	}
	var b bytes.Buffer
	err := custodianTemplate.Execute(&b, map[string]any{
		"Private": cmp.Or(p.private, demoPrivate), "Objects": objects, "Destinations": destinations,
		"DailyCap": cmp.Or(p.dailyCap, 100),
	})
	if err != nil {
		return err
	}
	return writeNew(filepath.Join(p.dir, custodianDir, "custodian.yaml"), b.Bytes(), 0o600)
}
