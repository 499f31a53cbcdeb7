package journey

import (
	"errors"
	"net/http"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// RouteOptions are what Routes needs of the gateway. All are needed.
type RouteOptions struct {
	// Authorise fails unless the request has an access token with the scope; the error is its answer.
	Authorise func(c *fiber.Ctx, scope string) error
	// Fail answers a problem document. Of a 5xx it says nothing but an id.
	Fail func(c *fiber.Ctx, status int, code, detail string) error
}

// scopeRead is the scope of reports.
const scopeRead = "journeys:read"

// Routes adds the private routes of reports. The scope is journeys:read.
//
//	GET /v1/journeys            what there is: sites with their periods, segments, stages, reports
//	GET /v1/journeys/<report>   ?period=&site=&segment=&stages=&format=json|csv
//
// Without `period` it is the newest, and without `site` the only one. What is not known is answered 400 and named; 503 while cells are counted anew.
func Routes(private fiber.Router, j *Journeys, o RouteOptions) {
	d := desk{j, o}
	private.Get("/v1/journeys", d.scoped(d.getListing))
	private.Get("/v1/journeys/:report", d.scoped(d.getReport))
}

type desk struct {
	j *Journeys
	o RouteOptions
}

func (d desk) scoped(next fiber.Handler) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if err := d.o.Authorise(c, scopeRead); err != nil {
			return err
		}
		c.Set(fiber.HeaderCacheControl, "no-store")
		c.Set(fiber.HeaderXContentTypeOptions, "nosniff")
		return next(c)
	}
}

func (d desk) getListing(c *fiber.Ctx) error {
	if _, err := parameters(c); err != nil {
		return d.fail(c, err)
	}
	listing, err := d.j.Listing()
	if err != nil {
		return d.fail(c, err)
	}
	return c.JSON(listing)
}

func (d desk) getReport(c *fiber.Ctx) error {
	given, err := parameters(c, "period", "site", "segment", "stages", "format")
	if err != nil {
		return d.fail(c, err)
	}
	format := given["format"]
	if format != "" && format != "json" && format != "csv" {
		return d.fail(c, &QueryError{"format", "json or csv"})
	}
	a, err := d.j.Report(Query{
		Report: strings.Clone(c.Params("report")), Period: given["period"], Site: given["site"], Segment: given["segment"], Stages: given["stages"],
	})
	if err != nil {
		return d.fail(c, err)
	}
	if format != "csv" {
		return c.JSON(a)
	}
	body, err := a.CSV()
	if err != nil {
		return d.fail(c, err)
	}
	c.Set(fiber.HeaderContentType, "text/csv; charset=utf-8; header=present") // RFC 4180
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="journeys-`+a.Report+"-"+a.Period.Name+`.csv"`)
	return c.Send(body)
}

// parameters are those of the query, each known and given once. They are copies: Fiber's texts end with the request.
func parameters(c *fiber.Ctx, known ...string) (map[string]string, error) {
	given := map[string]string{}
	var err error
	c.Context().QueryArgs().VisitAll(func(key, value []byte) {
		name := string(key)
		for _, k := range known {
			if k != name {
				continue
			}
			if _, twice := given[name]; twice {
				err = &QueryError{name, "given once"}
			}
			given[name] = string(value)
			return
		}
		err = &QueryError{"a parameter is not known", "known are [" + strings.Join(known, ", ") + "]"}
	})
	return given, err
}

func (d desk) fail(c *fiber.Ctx, err error) error {
	var wrong *QueryError
	switch {
	case errors.As(err, &wrong) && wrong.Field == "report":
		return d.o.Fail(c, http.StatusNotFound, "not_found", wrong.Error())
	case errors.As(err, &wrong):
		return d.o.Fail(c, http.StatusBadRequest, "invalid", wrong.Error())
	case errors.Is(err, ErrCounting):
		c.Set(fiber.HeaderRetryAfter, "5")
		return d.o.Fail(c, http.StatusServiceUnavailable, "counting", err.Error())
	}
	return err // the app answers with an id and nothing else
}
