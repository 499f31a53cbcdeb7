package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// supervised is a program that is started again whenever it was killed.
type supervised struct {
	name, log, program string
	args               []string
	kills              atomic.Int32
	mu                 sync.Mutex
	cmd                *exec.Cmd // guarded by mu
	stopping           bool      // guarded by mu
	done               chan error
}

func (r *run) supervise(name, program string, args ...string) *supervised {
	s := &supervised{name: name, log: r.path(name + ".log"), program: program, args: args, done: make(chan error, 1)}
	go func() { s.done <- s.loop() }()
	return s
}

func (s *supervised) loop() error {
	for {
		cmd, log, err := s.start()
		if err != nil {
			return err
		}
		if cmd == nil {
			return nil
		}
		err = errors.Join(cmd.Wait(), log.Close())
		s.mu.Lock()
		stopping := s.stopping
		s.mu.Unlock()
		var exit *exec.ExitError
		wasKilled := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
		if stopping && !wasKilled {
			if err != nil {
				return fmt.Errorf("%s: %w; log: %s", s.name, err, s.log)
			}
			return nil
		}
		if !wasKilled {
			return fmt.Errorf("%s ended by itself: %w; log: %s", s.name, err, s.log)
		}
	}
}

func (s *supervised) start() (*exec.Cmd, *os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping && s.cmd == nil {
		return nil, nil, nil
	}
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	s.cmd = exec.Command(s.program, s.args...)
	s.cmd.Stderr, s.cmd.Stdout = log, log
	return s.cmd, log, s.cmd.Start()
}

// kill is kill -9.
func (s *supervised) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil && !s.stopping && s.cmd.Process.Kill() == nil {
		s.kills.Add(1)
	}
}

// end asks the program to stop and waits for it.
func (s *supervised) end() error {
	s.mu.Lock()
	s.stopping = true
	err := s.cmd.Process.Signal(os.Interrupt)
	s.mu.Unlock()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	select {
	case ended := <-s.done:
		return errors.Join(err, ended)
	case <-time.After(3 * time.Minute):
		return fmt.Errorf("%s did not stop", s.name)
	}
}

// doomed are programs that are to be killed so many times in all.
type doomed struct {
	what     string
	programs []*supervised
	times    int
}

func (d *doomed) kills() (n int) {
	for _, s := range d.programs {
		n += int(s.kills.Load())
	}
	return n
}

// kill kills at random, with pauses of about that length, until ctx ends or the numbers are reached.
func (r *run) kill(ctx context.Context, pause time.Duration, all ...doomed) {
	for {
		var left []doomed // each as often as it has kills left
		for _, d := range all {
			for range d.times - d.kills() {
				left = append(left, d)
			}
		}
		if len(left) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause/3 + rand.N(pause*4/3)):
		}
		d := left[rand.IntN(len(left))]
		d.programs[rand.IntN(len(d.programs))].kill()
	}
}

// killing kills while work is done, and until the promised numbers are reached: also what is half shipped, or half erased, must survive. Then
// the gateway is ready.
func (r *run) killing(ctx context.Context, pause time.Duration, work func() error, all ...doomed) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	over := make(chan struct{})
	go func() { defer close(over); r.kill(ctx, pause, all...) }()
	if err := work(); err != nil {
		return err
	}
	<-over
	return errors.Join(ctx.Err(), r.awaitReady(ctx))
}

func printKills(when string, all ...doomed) {
	var parts []string
	for _, d := range all {
		parts = append(parts, fmt.Sprintf("%s %d times", d.what, d.kills()))
	}
	fmt.Printf("killed (-9)%s: %s\n", when, strings.Join(parts, ", "))
}

func (r *run) awaitReady(ctx context.Context) error {
	for range 600 {
		resp, err := http.Get("http://" + r.private + "/readyz")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return fmt.Errorf("the gateway is not ready after a minute; log: %s", r.path("gateway.log"))
}

func (r *run) path(elem ...string) string {
	return filepath.Join(append([]string{r.dir, "data"}, elem...)...)
}

// exec runs a program to its end; its output is shown when it fails.
func (r *run) exec(ctx context.Context, program string, args ...string) error {
	_, err := r.output(ctx, program, args...)
	return err
}

func (r *run) output(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(program), args[0], err, complaint.String())
	}
	return strings.TrimSpace(string(out)), nil
}
