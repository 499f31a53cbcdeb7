package rights

import "errors"

// Filed is a request as the officer sees it.
type Filed = full

// Page is a part of the list of requests.
type Page = page

// List is one page of the requests, the earliest due first: of those that are not closed, or of all. after is Page.After of the page before, or empty.
func (r *Requests) List(open bool, after string) (*Page, error) {
	f := filter{after: after}
	if open {
		f.state = "open"
	}
	return r.list(f)
}

// Filed is one request with its letter and what the custodian could not do. ErrNoRequest.
func (r *Requests) Filed(id string) (Filed, error) {
	q, err := r.request(id)
	if err != nil {
		return Filed{}, err
	}
	return r.filed(q)
}

func (r *Requests) filed(q *requestRow) (Filed, error) {
	f := r.full(q)
	var err1, err2 error
	f.Letter, err1 = r.letterOf(q)
	f.Failed, err2 = r.failuresOf(q.ID)
	return f, errors.Join(err1, err2)
}
