package main

import (
	"fmt"

	"github.com/octroi/octroi/cmd/octroi/console"
)

// addConsole adds the console to the private listener.
func (g *gateway) addConsole() error {
	o := console.Options{
		Token: g.edge.Token, Requests: g.rights, Policy: g.policy, Controller: g.config.Controller, Node: g.config.Node,
		Loopback: isLoopback(g.config.Listen.Private),
	}
	if g.journeys != nil {
		o.Journeys = g.journeys
	}
	c, err := console.New(o)
	if err != nil {
		return fmt.Errorf("building the console: %w", err)
	}
	c.Routes(g.private)
	return nil
}
