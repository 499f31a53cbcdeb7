package state_test

import (
	"os"
	"runtime"
	"testing"
)

// TestMain lets the test binary be the child of its own tests, which is killed or may be by what it opens.
func TestMain(m *testing.M) {
	switch os.Getenv("OCTROI_STATE_CHILD") {
	case "write":
		writeChild()
	case "open":
		openChild()
	default:
		os.Exit(m.Run())
	}
}

func exitGoroutine() { runtime.Goexit() }
