package rights

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/octroi/octroi/export"
)

// getWork is GET /v1/custody/work.
func (r *Requests) getWork(*call) (reply, error) {
	w, err := r.work()
	return reply{status: http.StatusOK, value: w}, err
}

func (c *call) batch() (export.BatchID, error) {
	id, err := export.ParseBatchID(c.id)
	if err != nil {
		return id, export.ErrNoBatch // not the text of the path
	}
	return id, nil
}

// statement is the body of what carries one signed statement, by the name of its member.
func (c *call) statement(member string) (string, error) {
	body, err := c.body(maxStatement)
	if err != nil {
		return "", err
	}
	var in map[string]string
	if err := decode(body, &in); err != nil {
		return "", err
	}
	if len(in) != 1 || in[member] == "" {
		return "", fmt.Errorf("%w: %s", ErrInput, member)
	}
	return in[member], nil
}

// postClaim is POST /v1/custody/batches/{id}/claim.
func (r *Requests) postClaim(c *call) (reply, error) {
	id, err := c.batch()
	if err != nil {
		return reply{}, err
	}
	who, err := c.statement("custodian")
	if err != nil {
		return reply{}, err
	}
	claimed, err := r.claim(c.ctx, id, who)
	return reply{status: http.StatusOK, value: claimed}, err
}

// heldUntil is the answer to who comes second.
type heldUntil struct {
	Code  string    `json:"code"`
	Until time.Time `json:"until"`
}

// postRewritten is POST /v1/custody/batches/{id}/rewritten.
func (r *Requests) postRewritten(c *call) (reply, error) {
	id, err := c.batch()
	if err != nil {
		return reply{}, err
	}
	report, err := c.statement("report")
	if err != nil {
		return reply{}, err
	}
	number, err := r.rewritten(c.ctx, id, report)
	return reply{status: http.StatusOK, value: map[string]uint64{"number": number}}, err
}

// postPurged is POST /v1/custody/batches/{id}/purged.
func (r *Requests) postPurged(c *call) (reply, error) {
	id, err := c.batch()
	if err != nil {
		return reply{}, err
	}
	report, err := c.statement("report")
	if err == nil {
		err = r.purgedBatch(c.ctx, id, report)
	}
	return reply{status: http.StatusNoContent}, err
}

// reason reads why something was not done: a code of the list, and a short text.
func (c *call) reason(codes []string) (why Refusal, err error) {
	var in struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
	}
	body, err := c.body(maxBody)
	if err == nil {
		err = decode(body, &in)
	}
	if err != nil {
		return why, err
	}
	if !slices.Contains(codes, in.Code) {
		return why, fmt.Errorf("%w: code is one of %s", ErrInput, strings.Join(codes, ", "))
	}
	if len(in.Detail) > maxDetail || strings.ContainsFunc(in.Detail, unicode.IsControl) {
		return why, fmt.Errorf("%w: detail is a line of at most %d bytes", ErrInput, maxDetail)
	}
	return Refusal{Code: in.Code, Detail: in.Detail}, nil
}

// postFailed is POST /v1/custody/batches/{id}/failed.
func (r *Requests) postFailed(c *call) (reply, error) {
	id, err := c.batch()
	if err != nil {
		return reply{}, err
	}
	why, err := c.reason(failures())
	if err == nil {
		err = r.failed(c.ctx, id, why)
	}
	return reply{status: http.StatusNoContent}, err
}

// putPackage is PUT /v1/custody/requests/{id}/package.
func (r *Requests) putPackage(c *call) (reply, error) {
	return reply{status: http.StatusNoContent}, r.receive(c.ctx, c.id, c.report, c.stream)
}

// postCertificate is POST /v1/custody/requests/{id}/certificate.
func (r *Requests) postCertificate(c *call) (reply, error) {
	text, err := c.statement("certificate")
	if err == nil {
		err = r.certify(c.ctx, c.id, text)
	}
	return reply{status: http.StatusNoContent}, err
}

// postRefused is POST /v1/custody/requests/{id}/refused.
func (r *Requests) postRefused(c *call) (reply, error) {
	why, err := c.reason(refusals())
	if err == nil {
		err = r.refused(c.ctx, c.id, why)
	}
	return reply{status: http.StatusNoContent}, err
}
