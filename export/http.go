package export

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/octroi/octroi/consent/state"
)

// entriesMax is the most entries of one answer, and what it is without `limit`.
const entriesMax = 1000

// StreamOptions configure StreamRoutes.
type StreamOptions struct {
	Node         string
	State        *state.Store
	Destinations []string
	Authorise    func(c *fiber.Ctx, scope string) error // nil lets the request through; an error is its answer
	Now          func() time.Time                       // default time.Now
}

// StreamRoutes adds the mirror of the streams, for recipients that do not read the store, and the way back. The scope is stream:<destination>.
//
//	GET  /v1/streams/<destination>?after=N&limit=M   application/x-ndjson: each line a JSON string, the text of one entry as it was signed
//	GET  /v1/streams/<destination>/head              {"destination":"warehouse","node":"a","number":12,"sha256":"…"}
//	POST /v1/streams/<destination>/ack               {"loader":"dwh-1","node":"a","number":12,"sha256":"…"}: applied and durable up to there
//
// Without `after` it begins at entry 1. An answer without lines is the present end: ask again later with the same number. An
// acknowledgement is answered 204; 409 where the entry of that number is not published, or not the one of the hash; 422 where a field is wrong.
func StreamRoutes(r fiber.Router, o StreamOptions) {
	if o.Now == nil {
		o.Now = time.Now
	}
	x := NewStreams(o.State, o.Node, o.Destinations...)
	scoped := func(next fiber.Handler) fiber.Handler {
		return func(c *fiber.Ctx) error {
			destination := c.Params("destination")
			if err := o.Authorise(c, "stream:"+destination); err != nil {
				return err
			}
			if !x.known[destination] {
				return httpError(ErrNoDestination)
			}
			return next(c)
		}
	}
	r.Get("/v1/streams/:destination", scoped(x.getEntries))
	r.Get("/v1/streams/:destination/head", scoped(func(c *fiber.Ctx) error {
		head, err := x.Head(c.Params("destination"))
		if err != nil {
			return httpError(err)
		}
		return c.JSON(head)
	}))
	acks := NewAcks(o.State)
	r.Post("/v1/streams/:destination/ack", scoped(func(c *fiber.Ctx) error {
		a, err := parseAck(c.Request().Body()) // as it came: Body would unpack what a header calls packed, without a bound
		if err == nil {
			a.At = o.Now()
			err = acks.Record(c.UserContext(), strings.Clone(c.Params("destination")), a)
		}
		if err != nil {
			return httpError(err)
		}
		return c.SendStatus(fiber.StatusNoContent)
	}))
}

// parseAck reads what a loader sends, strictly.
func parseAck(body []byte) (Ack, error) {
	var sent struct {
		Loader string `json:"loader"`
		Node   string `json:"node"`
		Number uint64 `json:"number"`
		SHA256 string `json:"sha256"`
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&sent); err != nil {
		return Ack{}, fmt.Errorf("%w: an object of loader, node, number and sha256 is expected", ErrAckField)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Ack{}, fmt.Errorf("%w: something follows the object", ErrAckField)
	}
	return Ack{Loader: sent.Loader, Node: sent.Node, Number: sent.Number, SHA256: sent.SHA256}, nil
}

func (x *Streams) getEntries(c *fiber.Ctx) error {
	after, err := number(c.Query("after", "0"))
	if err != nil {
		return fiber.NewError(fiber.StatusBadRequest, "after is the number of the last entry you have: 0 or more")
	}
	limit, err := number(c.Query("limit", strconv.Itoa(entriesMax)))
	if err != nil || limit == 0 {
		return fiber.NewError(fiber.StatusBadRequest, "limit is a number of entries: 1 or more")
	}
	texts, err := x.Entries(c.Params("destination"), after, int(min(limit, entriesMax)))
	if err != nil {
		return httpError(err)
	}
	c.Set(fiber.HeaderContentType, "application/x-ndjson")
	for _, text := range texts {
		line, err := json.Marshal(text)
		if err != nil {
			return err
		}
		if _, err := c.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// number reads decimal digits only.
func number(text string) (uint64, error) { return strconv.ParseUint(text, 10, 63) }

func httpError(err error) error {
	switch {
	case errors.Is(err, ErrNoDestination):
		return fiber.NewError(fiber.StatusNotFound, "no such destination")
	case errors.Is(err, ErrAck):
		return fiber.NewError(fiber.StatusConflict, err.Error())
	case errors.Is(err, ErrAckField):
		return fiber.NewError(fiber.StatusUnprocessableEntity, err.Error())
	}
	return err // the app answers with an id and nothing else
}
