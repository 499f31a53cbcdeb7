package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// eventBytes is the size of one event's JSON, as in the measurements that the budget comes from.
const eventBytes = 573

// idDigits is the width of the running number that makes each event's id its own.
const idDigits = 16

var serial atomic.Uint64

// load sends events for a while over keep-alive connections, each waiting for its answer before the next, and checks every answer.
func load(s *server, batch int, each time.Duration) (Figures, error) {
	latencies := make([][]time.Duration, connections)
	var events atomic.Int64
	start, cpu := time.Now(), s.cpu()
	deadline := start.Add(each)
	var group errgroup.Group
	for i := range connections {
		group.Go(func() error {
			c, err := dial(s, i, batch)
			if err != nil {
				return err
			}
			defer c.conn.Close()
			for time.Now().Before(deadline) {
				sent := time.Now()
				if err := c.post(); err != nil {
					return err
				}
				latencies[i] = append(latencies[i], time.Since(sent))
				events.Add(int64(batch))
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return Figures{}, err
	}
	all := slices.Concat(latencies...)
	if len(all) == 0 {
		return Figures{}, errors.New("no request was answered")
	}
	slices.Sort(all)
	return Figures{
		EventsPerSecond: float64(events.Load()) / time.Since(start).Seconds(),
		P99Millis:       float64(all[len(all)*99/100].Microseconds()) / 1000,
		CPUMicros:       float64((s.cpu() - cpu).Microseconds()) / float64(events.Load()),
	}, nil
}

// client is one connection with its prepared request; only the ids in it change.
type client struct {
	conn    net.Conn
	in      *bufio.Reader
	request []byte
	ids     []int // offsets of the ids
	want    []byte
}

const idMark = "################"

func dial(s *server, i, batch int) (*client, error) {
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		return nil, err
	}
	body := event()
	if batch > 1 {
		body = `{"batch":[` + strings.Repeat(body+",", batch-1) + body + `]}`
	}
	head := "POST /v1/events?k=demo HTTP/1.1\r\nHost: " + s.address + "\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n"
	if len(s.cookies) > 0 {
		head += "Origin: http://" + s.address + "\r\nCookie: " + s.cookies[i%len(s.cookies)] + "\r\n"
	}
	c := &client{conn: conn, in: bufio.NewReader(conn), request: []byte(head + "\r\n" + body), want: fmt.Appendf(nil, `"accepted":%d`, batch)}
	for at := 0; ; {
		j := bytes.Index(c.request[at:], []byte(idMark))
		if j < 0 {
			return c, nil
		}
		c.ids = append(c.ids, at+j)
		at += j + len(idMark)
	}
}

// event is one page view of eventBytes bytes.
func event() string {
	text := `{"id":"` + idMark + `","type":"page_view","time":"` + time.Now().UTC().Format("2006-01-02T15:04:05.000Z") + `","channel":"web","fields":{"url":"https://shop.example/p/1?gclid=x","campaign":"spring","source":"newsletter","medium":"email","product":"sku-4711","category":"music","referrer":"https://www.example.org/search","padding":"`
	return text + strings.Repeat("x", eventBytes-len(text)-len(`"}}`)) + `"}}`
}

func (c *client) post() error {
	for _, at := range c.ids {
		id := serial.Add(1)
		for d := idDigits - 1; d >= 0; d-- {
			c.request[at+d] = byte('0' + id%10)
			id /= 10
		}
	}
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	return c.answer()
}

// answer reads one response and holds it against what every event must get.
func (c *client) answer() error {
	status, err := c.in.ReadSlice('\n')
	if err != nil {
		return err
	}
	ok, length := bytes.Contains(status, []byte(" 202 ")), -1
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if name, value, _ := bytes.Cut(line, []byte(": ")); bytes.EqualFold(name, []byte("content-length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return errors.New("an answer has no Content-Length")
	}
	body, err := c.in.Peek(min(length, 1024))
	if err == nil && (!ok || !bytes.Contains(body, c.want)) {
		return fmt.Errorf("an event was not accepted: %s", body)
	}
	_, err = io.CopyN(io.Discard, c.in, int64(length))
	return err
}
