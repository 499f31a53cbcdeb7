package main

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/octroi/octroi/collector"
	"github.com/spf13/cobra"
)

// maxTokenLife bounds `octroi token`: a token cannot be taken back, so none outlives this.
const maxTokenLife = 366 * 24 * time.Hour

func newTokenCommand() *cobra.Command {
	var path, name string
	var scope, sites, declare []string
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "token",
		Short: "make an access token for a back-end, a DPO or a data team",
		Long: `Makes a signed access token (JWT, EdDSA) and prints it. The holder sends it as "Authorization: Bearer …".

Scopes:
  events:write           send events, and name persons in them
  consent:write          record choices of persons the token names
  consent:import         record choices made earlier, with given_at
  identify:write         link a device to a person whom the token names, and end that
  rights:read            read consent records and their proof
  rights:manage          open and decide requests of data subjects: the data protection officer
  journeys:read          read reports of journeys
  custody                take the custodian's work: octroi-custodian
  backup                 take encrypted copies of state and slot file: octroi backup
  stream:<destination>   read one destination's stream
  admin                  read the gateway's figures and its evidence log

A token with --declare may, by naming a person in an event, say that the person stands under these purposes, whose basis is not consent
(a contract, a legal obligation). It lasts --life; it cannot be taken back, so keep it short, and replace it.`,
		Example: `  octroi token --name till --scope events:write --site shop --declare service > till.token
  octroi token --name importer --scope consent:write,consent:import --life 2h
  octroi token --name warehouse --scope stream:warehouse
  octroi token --name dpo --scope rights:manage,rights:read --life 8h > dpo.token
  octroi token --name custodian --scope custody --life 720h > custody.token`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := ReadConfig(path)
			if err != nil {
				return err
			}
			if err := checkTokenRequest(c, scope, sites, declare, life); err != nil {
				return usageError{err}
			}
			k, err := ReadKeys(c.path(c.Keys))
			if err != nil {
				return fmt.Errorf("reading keys:\n%w", err)
			}
			token, err := mintToken(k.Token, c.Node, collector.TokenClaims{
				Subject: name, Scopes: scope, Sites: sites, Declare: declare, Expires: time.Now().Add(life),
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		},
	}
	configFlag(cmd, &path)
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "who holds it; stands in the evidence of what it did")
	f.StringSliceVar(&scope, "scope", nil, "what it may do; repeat or separate by commas")
	f.StringSliceVar(&sites, "site", nil, "sites it may speak for (default: all)")
	f.StringSliceVar(&declare, "declare", nil, "purposes it may declare persons under")
	f.DurationVar(&life, "life", 24*time.Hour, "how long it holds, at most 8784h")
	return cmd
}

func checkTokenRequest(c *Config, scope, sites, declare []string, life time.Duration) error {
	if len(scope) == 0 {
		return fmt.Errorf("name at least one --scope: %s, stream:<destination>", strings.Join(collector.Scopes(), ", "))
	}
	for _, s := range scope {
		destination, stream := strings.CutPrefix(s, "stream:")
		if stream && slices.ContainsFunc(c.Destinations, func(d DestinationConfig) bool { return d.Name == destination }) {
			continue
		}
		if !slices.Contains(collector.Scopes(), s) {
			return fmt.Errorf("unknown scope %q: want one of %s, stream:<destination>", s, strings.Join(collector.Scopes(), ", "))
		}
	}
	for _, s := range sites {
		if !slices.ContainsFunc(c.Sites, func(x SiteConfig) bool { return x.Name == s }) {
			return fmt.Errorf("unknown site %q: it is not in the configuration", s)
		}
	}
	if life <= 0 || life > maxTokenLife {
		return fmt.Errorf("--life must be above 0 and at most %s", maxTokenLife)
	}
	p, err := loadPolicy(c.path(c.Policies))
	if err != nil {
		return err
	}
	for _, id := range declare {
		purpose, ok := p.Purpose(id)
		if !ok {
			return fmt.Errorf("unknown purpose %q in --declare", id)
		}
		if purpose.Basis == "consent" {
			return fmt.Errorf("purpose %q rests on consent: only the person can give it, no token can declare it", id)
		}
	}
	return nil
}

// mintToken signs an access token of node.
func mintToken(key ed25519.PrivateKey, node string, claims collector.TokenClaims) (string, error) {
	if claims.Subject == "" {
		return "", usageError{fmt.Errorf("name the token's holder with --name")}
	}
	claims.Issuer, claims.ID = node, uuid.NewString()
	token, err := collector.MakeToken(claims, key)
	if err != nil {
		return "", fmt.Errorf("signing token: %w", err)
	}
	return token, nil
}
