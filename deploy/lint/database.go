package main

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// patience is how long a service may take to answer before it counts as out of reach.
const patience = 5 * time.Second

// reach asks for the head of a page: whether a check that needs the network can be run here. A proxy of the environment is used.
func reach(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
	if err != nil {
		return fmt.Errorf("reaching %s: %w", address, err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("reaching %s: %w", address, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("reaching %s: it answers %s", address, answer.Status)
	}
	return nil
}
