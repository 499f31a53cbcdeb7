package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fastjson"
)

// baseline serves the least that a durable collector must do: parse the event, append it to one file, answer after an fsync that many
// requests share. No consent, no pseudonym, no duplicate detection.
func baseline(address string) error {
	f, err := os.Create(filepath.Join(os.TempDir(), "octroi-baseline-"+filepath.Base(address)))
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	l := &groupLog{file: f, queue: make(chan *entry, 4096)}
	go l.run()
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	var parsers fastjson.ParserPool
	app.Get("/readyz", func(c *fiber.Ctx) error { return c.SendString("ready") })
	app.Post("/v1/events", func(c *fiber.Ctx) error {
		p := parsers.Get()
		defer parsers.Put(p)
		v, err := p.ParseBytes(c.Body())
		if err != nil {
			return fiber.ErrBadRequest
		}
		n := 1
		if batch := v.GetArray("batch"); batch != nil {
			n = len(batch)
			v = batch[0]
		}
		if len(v.GetStringBytes("type")) == 0 || len(v.GetStringBytes("id")) == 0 {
			return fiber.ErrBadRequest
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
