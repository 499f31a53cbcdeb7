package load

import (
	"context"
	"time"
)

// Sleep is how a Loader waits; SetSleep replaces it.
var Sleep = sleep

func SetSleep(l *Loader, f func(ctx context.Context, d time.Duration) error) { l.sleep = f }
