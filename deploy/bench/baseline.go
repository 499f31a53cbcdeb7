package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/bytedance/sonic"
	"github.com/gofiber/fiber/v2"
)

// baseline serves the least that a durable collector must do: parse the event, append it to one file, answer after an fsync that many
// requests share. No consent, no pseudonym, no duplicate detection. The parser is the one that the budget names.
func baseline(address string) error {
	f, err := os.Create(filepath.Join(os.TempDir(), "octroi-baseline-"+filepath.Base(address)))
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	l := &groupLog{file: f, queue: make(chan *entry, 4096)}
	go l.run()
	app := fiber.New(fiber.Config{ // with the timeouts that whoever faces the internet must have
		DisableStartupMessage: true, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute,
	})
	app.Get("/readyz", func(c *fiber.Ctx) error { return c.SendString("ready") })
	app.Post("/v1/events", func(c *fiber.Ctx) error {
		var posted post
		if err := sonic.Unmarshal(c.Body(), &posted); err != nil {
			return fiber.ErrBadRequest
		}
		n := max(1, len(posted.Batch))
		if posted.Batch == nil {
			posted.Batch = []sent{posted.sent}
		}
		for i := range posted.Batch {
			if posted.Batch[i].ID == "" || posted.Batch[i].Type == "" {
				return fiber.ErrBadRequest
			}
		}
		e := entries.Get().(*entry)
		defer entries.Put(e)
		e.body = append(e.body[:0], c.Body()...)
		l.queue <- e
		if err := <-e.done; err != nil {
			return err
		}
		c.Status(fiber.StatusAccepted).Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
		return c.SendString(`{"accepted":` + itoa(n) + `,"refused":[]}`)
	})
	return app.Listen(address)
}

// post is a body of the native format, as far as any collector must read it.
type post struct {
	sent
	Batch []sent `json:"batch"`
}

type sent struct {
	ID      string         `json:"id"`
	Type    string         `json:"type"`
	Time    string         `json:"time"`
	Channel string         `json:"channel"`
	Fields  map[string]any `json:"fields"`
}

func itoa(n int) string {
	if n == 1 {
		return "1"
	}
	return string([]byte{byte('0' + n/10), byte('0' + n%10)})
}

// entry is one body that waits for its fsync.
type entry struct {
	body []byte
	done chan error
}

var entries = sync.Pool{New: func() any { return &entry{done: make(chan error, 1)} }}

// groupLog is a file with group commit: whatever waits is written together and synced once.
type groupLog struct {
	file  *os.File
	queue chan *entry
}

func (l *groupLog) run() {
	var buf []byte
	var group []*entry
	for first := range l.queue {
		buf, group = buf[:0], append(group[:0], first)
		for more := true; more; {
			select {
			case e := <-l.queue:
				group = append(group, e)
			default:
				more = false
			}
		}
		for _, e := range group {
			buf = append(binary.LittleEndian.AppendUint32(buf, uint32(len(e.body))), e.body...)
		}
		_, err := l.file.Write(buf)
		if err == nil {
			err = datasync(l.file)
		}
		for _, e := range group {
			e.done <- err
		}
	}
}
