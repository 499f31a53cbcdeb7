package rights

import (
	"context"

	"github.com/octroi/octroi/export/rights/proof"
)

// Pass takes every open request one turn further, as Run does.
func (r *Requests) Pass(ctx context.Context) { r.pass(ctx) }

// KeepHouse does what the calendar asks for, as Run does every hour.
func (r *Requests) KeepHouse(ctx context.Context) { r.keepHouse(ctx) }

// Hasten seals what open requests wait for, until ctx ends.
func (r *Requests) Hasten(ctx context.Context) { r.hasten(ctx) }

// Work is what the custodian is asked to do.
func (r *Requests) Work() (*proof.Work, error) { return r.work() }
