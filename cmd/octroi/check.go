package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/octroi/octroi/export/journey"
	"github.com/octroi/octroi/policies"
	"github.com/spf13/cobra"
)

func newCheckCommand() *cobra.Command {
	var path, policy string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "check configuration, keys and policies, and say what they do",
		Long: `Checks octroi.yaml, the key files and the policies without starting anything. Each problem
names file, line and field, what is wrong, and what would be right. When all is well it prints
what the gateway will do: for each purpose, who receives what, for how long, on what ground.`,
		Example: `  octroi check
  octroi check --config /srv/octroi/gateway/octroi.yaml
  octroi check --policies ./policies      only a folder of policies`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if policy != "" {
				p, err := loadPolicy(policy)
				if err != nil {
					return err
				}
				return describePolicy(cmd.OutOrStdout(), p)
			}
			c, err := ReadConfig(path)
			if err != nil {
				return err
			}
			_, keysErr := ReadKeys(c.path(c.Keys))
			p, policyErr := loadPolicy(c.path(c.Policies))
			var recipientsErr error
			if policyErr == nil {
				recipientsErr = checkRecipients(c, p)
			}
			if err := errors.Join(keysErr, policyErr, recipientsErr); err != nil {
				return err
			}
			if c.Contact.Email == "" && c.Contact.Phone == "" && c.Contact.Street == "" {
				fmt.Fprintln(cmd.OutOrStdout(), "note: octroi.yaml has no contact: receipts tell persons no way to reach the controller (GDPR Art. 13(1)(a))")
			}
			return describePolicy(cmd.OutOrStdout(), p)
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().StringVar(&policy, "policies", "", "check only this folder of policies")
	return cmd
}

func loadPolicy(dir string) (*policies.Policy, error) {
	p, err := policies.Load(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("policies in %s:\n%w", dir, err)
	}
	return p, nil
}

// checkRecipients holds the policies' recipients against the configured destinations, both ways.
func checkRecipients(c *Config, p *policies.Policy) error {
	wrong, configured := &problems{file: c.file}, map[string]bool{journey.Destination: true}
	for i, d := range c.Destinations {
		configured[d.Name] = true
		if p.RecipientOf(d.Name) == 0 {
			wrong.add(fmt.Sprintf("destinations[%d].name", i), "no purpose names %q as a recipient, so it would receive nothing: add it to a purpose's recipients", d.Name)
		}
	}
	for _, purpose := range p.Purposes() {
		for _, r := range purpose.Recipients {
			if !configured[r.Destination] {
				wrong.add("destinations", "recipient %q of purpose %q is not among them: add it here, or remove it from the purpose", r.Destination, purpose.ID)
			}
		}
	}
	return errors.Join(wrong.found...)
}

func describePolicy(w io.Writer, p *policies.Policy) error {
	hash := p.Hash()
	fmt.Fprintf(w, "policy %x: %d purposes, %d event types\n\n", hash[:8], len(p.Purposes()), len(p.EventTypes()))
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "PURPOSE\tVERSION\tBASIS\tKEPT\tEVENT TYPES\tRECIPIENTS")
	for _, x := range p.Purposes() {
		var names []string
		for _, r := range x.Recipients {
			names = append(names, r.Destination+" ("+r.Name+")")
		}
		types := strings.Join(x.EventTypes, " ")
		if x.ID == policies.Linking {
			types = "(those of the other consents, while a device is linked to a person)"
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\n", x.ID, x.Version, x.Basis, x.Retention, types, strings.Join(names, ", "))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return describeMarks(w, p)
}

// describeMarks says what of the purposes a table of them does not show.
func describeMarks(w io.Writer, p *policies.Policy) error {
	var lines []string
	for _, x := range p.Purposes() {
		if x.Exemption != "" {
			lines = append(lines, x.ID+": sent without a choice, and of nobody: "+x.Exemption)
		}
		if x.Advertising {
			lines = append(lines, x.ID+": serves advertising")
		}
		if x.Sharing {
			lines = append(lines, x.ID+": is shared with third parties")
		}
		if x.AutomatedDecisions {
			lines = append(lines, x.ID+": decisions are made by automated means alone (GDPR Art. 22)")
		}
	}
	if len(lines) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "\n%s\n", strings.Join(lines, "\n"))
	return err
}
