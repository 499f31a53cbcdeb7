package export

import (
	"encoding/json"
	"errors"
	"strconv"

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
}

// StreamRoutes adds the mirror of the streams, for recipients that do not read the store. The scope is stream:<destination>.
//
//	GET /v1/streams/<destination>?after=N&limit=M   application/x-ndjson: each line a JSON string, the text of one entry as it was signed
//	GET /v1/streams/<destination>/head              {"destination":"warehouse","node":"a","number":12,"sha256":"…"}
//
// Without `after` it begins at entry 1. An answer without lines is the present end: ask again later with the same number.
func StreamRoutes(r fiber.Router, o StreamOptions) {
	x := NewStreams(o.State, o.Node, o.Destinations...)
	r.Get("/v1/streams/:destination", func(c *fiber.Ctx) error {
		if err := o.Authorise(c, "stream:"+c.Params("destination")); err != nil {
			return err
		}
		return x.getEntries(c)
	})
	r.Get("/v1/streams/:destination/head", func(c *fiber.Ctx) error {
		if err := o.Authorise(c, "stream:"+c.Params("destination")); err != nil {
			return err
		}
		head, err := x.Head(c.Params("destination"))
		if err != nil {
			return httpError(err)
		}
		return c.JSON(head)
	})
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
	if errors.Is(err, ErrNoDestination) {
		return fiber.NewError(fiber.StatusNotFound, "no such destination")
	}
	return err // the app answers with an id and nothing else
}
