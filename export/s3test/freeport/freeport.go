// Package freeport finds addresses for servers that a test starts, kills, and starts again on the same address.
//
// The kernel's own choice (port 0) lies where it also takes the ports of outgoing connections from: while the server is away, any
// connection of the test may be given its port. Address chooses below that range.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// The ports that are chosen from: above the well-known, below what Linux (32768) and others give to outgoing connections.
const (
	least = 15_000
	most  = 30_000
)

// Address is a loopback address that nobody listens on at the moment.
func Address() (string, error) {
	for range 200 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", least+rand.IntN(most-least)))
		if err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", fmt.Errorf("no free port from %d to %d", least, most)
}
