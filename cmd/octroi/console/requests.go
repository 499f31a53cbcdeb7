package console

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/octroi/octroi/export/rights"
	"github.com/octroi/octroi/export/rights/proof"
)

// home leads to the first page that the token allows.
func (c *Console) home(v *visit) error {
	to := "/console/policies"
	switch {
	case v.session.can(scopeRights):
		to = "/console/requests"
	case v.session.can(scopeJourneys) && c.o.Journeys != nil:
		to = "/console/journeys"
	}
	return v.f.Redirect(to, http.StatusSeeOther)
}

// requestList is what the page of requests shows.
type requestList struct {
	Open    bool
	List    *rights.Page
	Figures *rights.Figures
}

// requests lists the requests by due date.
func (c *Console) requests(v *visit) error {
	open := v.f.Query("show") != "all"
	list, err := c.o.Requests.List(open, strings.Clone(v.f.Query("after")))
	if err != nil {
		return err
	}
	figures := c.o.Requests.Figures()
	return c.render(v, http.StatusOK, "requests", requestList{open, list, &figures})
}

// requestPage is what the page of one request shows.
type requestPage struct {
	Filed       rights.Filed
	Milestones  []milestone
	Certificate bool
}

// milestone is a step of a request's way, with when it was reached.
type milestone struct {
	Name string // of the list "milestones"
	At   time.Time
	Now  bool // it is the one that is being worked on
}

func (c *Console) request(v *visit) error {
	filed, err := c.o.Requests.Filed(strings.Clone(v.f.Params("id")))
	if err != nil {
		return err
	}
	_, err = c.o.Requests.Certificate(filed.ID)
	return c.render(v, http.StatusOK, "request", requestPage{filed, milestones(&filed), err == nil})
}

// milestones are the steps of an erasure (rights.md "Erasure") or an access, up to the end.
func milestones(q *rights.Filed) []milestone {
	list := []milestone{{Name: "received", At: q.Received}}
	if q.Right == proof.Erasure && len(q.Purposes) == 0 {
		list = append(list, milestone{Name: "suppressed", At: q.Suppressed}, milestone{Name: "severed", At: q.Severed}, milestone{Name: "purged", At: q.Purged})
	} else if q.Right == proof.Erasure {
		list = append(list, milestone{Name: "withdrawn", At: q.Suppressed}, milestone{Name: "purged", At: q.Purged})
	}
	list = append(list, milestone{Name: "closed", At: q.Closed})
	if i := slices.IndexFunc(list, func(m milestone) bool { return m.At.IsZero() }); i >= 0 && !q.State.Final() {
		list[i].Now = true
	}
	return list
}

// certificate is the signed text, to be kept and verified offline.
func (c *Console) certificate(v *visit) error {
	id := strings.Clone(v.f.Params("id"))
	text, err := c.o.Requests.Certificate(id)
	if err != nil {
		return err
	}
	v.f.Set(fiber.HeaderContentType, "application/jwt")
	v.f.Set(fiber.HeaderContentDisposition, `attachment; filename="certificate-`+id+`.jwt"`)
	return v.f.SendString(text)
}

// policies shows the purposes in force.
func (c *Console) policies(v *visit) error {
	return c.render(v, http.StatusOK, "policies", c.o.Policy)
}
