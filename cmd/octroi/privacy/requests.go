package privacy

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/octroi/octroi/export/rights"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/policies"
)

// requestView is a request as the page shows it.
type requestView struct {
	rights.Brief
	Name   string // what was asked for
	Stand  string // its state, in words
	Next   string // what happens now
	Final  bool
	Scope  []string // titles of the purposes; none: everything
	Left   string   // days until it is due
	Letter string
}

// requestOf is a request in words.
func (v *visit) requestOf(b *rights.Brief) requestView {
	x := requestView{
		Brief: *b, Name: of(v.words.Rights, string(b.Right)), Stand: of(v.words.States, string(b.State)), Final: b.State.Final(),
		Letter: b.Letter[v.words.Language],
	}
	key := string(b.Right) + " " + string(b.State)
	if p := b.Package; p != nil && b.State == rights.Completed && !p.Open {
		key += " opened"
		if p.Opened.IsZero() {
			key = string(b.Right) + " " + string(b.State) + " over"
		}
	}
	x.Next = cmp.Or(v.words.Next[key], v.words.Next[string(b.State)])
	if p := b.Package; p != nil && p.Open {
		x.Stand = of(v.words.States, "ready")
	}
	if !x.Final {
		x.Left = v.words.count(max(b.DaysLeft, 0), "day")
	}
	for _, id := range b.Purposes {
		title := id
		if p, ok := v.p.o.Policy.Purpose(id); ok {
			title = v.purpose(p).Title
		}
		x.Scope = append(x.Scope, title)
	}
	return x
}

// requestPage is one request.
type requestPage struct {
	requestView
	Steps      []stepView
	Cancel     bool
	Code       string // to be kept; empty: it was, or the cookie is still here
	Following  bool   // by its code
	Verifiable bool   // there is a certificate
	Keys       []PublicKey
}

// stepView is one step of a request.
type stepView struct {
	Text string
	At   time.Time
	Done bool
	Now  bool // the first that is not done
	Some string
}

// showRequest is one request of the person: by the cookie, or by its code.
func (v *visit) showRequest() error {
	if v.site == nil {
		return errNoSite
	}
	id := v.param("id")
	self := v.self(id)
	b, err := self.Request(id)
	if err != nil {
		return err
	}
	m, err := self.Milestones(id)
	if err != nil {
		return err
	}
	r := &requestPage{requestView: v.requestOf(&b), Cancel: self.Cancellable(id), Following: v.follow.id == id, Keys: v.p.o.Keys}
	r.Steps = v.steps(&b, &m)
	if r.Following && v.follow.fresh {
		r.Code = v.follow.code()
	}
	r.Verifiable = b.Right == proof.Erasure && b.State == rights.Completed
	return v.show("request", r)
}

// steps are those of a request that is carried out, or was.
func (v *visit) steps(b *rights.Brief, m *rights.Milestones) (list []stepView) {
	if b.State.Final() && b.State != rights.Completed {
		return nil
	}
	add := func(key string, done bool, at time.Time) {
		list = append(list, stepView{Text: v.words.Text[key], At: at, Done: done})
	}
	completed := b.State == rights.Completed
	add("step_received", true, b.Received)
	if b.Right == proof.Access {
		add("step_gathered", completed, b.Closed)
		if b.Package != nil {
			add("step_opened", !b.Package.Opened.IsZero(), b.Package.Opened)
		} else {
			add("step_opened", false, time.Time{})
		}
		return mark(list)
	}
	add("step_stopped", !m.Suppressed.IsZero(), m.Suppressed)
	if len(b.Purposes) == 0 {
		add("step_severed", !m.Severed.IsZero(), m.Severed)
	}
	add("step_rewritten", !m.Purged.IsZero(), m.Purged)
	if m.Purged.IsZero() && m.Batches > 0 {
		list[len(list)-1].Some = fmt.Sprintf(v.words.Text["step_some"], m.Done, m.Batches)
	}
	add("step_told", completed, time.Time{})
	if m.Notices > 0 {
		list[len(list)-1].Some = fmt.Sprintf(v.words.Text["step_some"], m.Confirmed, m.Notices)
	}
	add("step_certified", completed, b.Closed)
	return mark(list)
}

// mark says at which step a request is.
func mark(list []stepView) []stepView {
	if i := slices.IndexFunc(list, func(s stepView) bool { return !s.Done }); i >= 0 {
		list[i].Now = true
	}
	return list
}

// erasurePage says what an erasure will do, before it is asked for.
type erasurePage struct {
	Known    bool
	Purposes []purposeView // that can be erased by themselves
	Waiting  []requestView // that end with an erasure of everything
	Chosen   []string      // of a post that lacked something
	Some     bool
	Errors   []formError
}

// Has says whether a purpose was chosen.
func (e *erasurePage) Has(id string) bool { return slices.Contains(e.Chosen, id) }

// formError is what a form lacks: the field to go to, and the words.
type formError struct{ Field, Key string }

// Wrong says whether a field is named in the summary.
func (e *erasurePage) Wrong(field string) string {
	for _, x := range e.Errors {
		if x.Field == field {
			return x.Key
		}
	}
	return ""
}

// showErasure is what will happen.
func (v *visit) showErasure() error { return v.confirm(&erasurePage{}) }

// confirm completes the page, and shows it.
func (v *visit) confirm(e *erasurePage) error {
	if v.site == nil {
		return errNoSite
	}
	e.Known = v.person.Device.Exists()
	for _, p := range v.p.o.Policy.Purposes() {
		if p.Basis == policies.Consent && p.ID != policies.Linking {
			e.Purposes = append(e.Purposes, v.purpose(p))
		}
	}
	list, err := v.self("").Requests()
	if err != nil {
		return fmt.Errorf("showing requests: %w", err)
	}
	for i := range list {
		b := &list[i]
		if !b.State.Final() || b.Package != nil && b.Package.Open {
			e.Waiting = append(e.Waiting, v.requestOf(b))
		}
	}
	return v.show("erasure", e)
}

// ask opens a request of access or erasure. What is known under the cookie, the cookie proves (D5).
func (v *visit) ask() error {
	if err := v.person.Throttle(); err != nil {
		return err
	}
	w := rights.Wish{Right: proof.Right(v.form.Get("right")), Language: v.words.Language}
	if w.Right == proof.Erasure {
		lacking := v.erasure(&w)
		if lacking != nil {
			v.f.Status(http.StatusUnprocessableEntity)
			return v.confirm(lacking)
		}
	}
	b, created, err := v.self("").Ask(v.f.UserContext(), w)
	if err != nil {
		return err
	}
	if created && b.Right == proof.Erasure && len(b.Purposes) == 0 {
		v.keep(follow{id: b.ID, secret: b.Secret, fresh: true})
		v.person.Forget()
	}
	done := "asked"
	if !created {
		done = "asked_before"
	}
	return v.next("/privacy/requests/"+b.ID, done)
}

// erasure reads what is to be erased; what the form lacks, it answers with.
func (v *visit) erasure(w *rights.Wish) *erasurePage {
	e := &erasurePage{Some: v.form.Get("scope") == "some", Chosen: v.form["purpose"]}
	if e.Some {
		w.Purposes = e.Chosen
		if len(e.Chosen) == 0 {
			e.Errors = append(e.Errors, formError{"purposes", "which_purposes"})
		}
	}
	if v.form.Get("confirm") != "yes" {
		e.Errors = append(e.Errors, formError{"confirm", "not_confirmed"})
	}
	if len(e.Errors) == 0 {
		return nil
	}
	return e
}

// open opens an access package, which can be done once: that is why it is a post.
func (v *visit) open() error {
	if err := v.person.Throttle(); err != nil {
		return err
	}
	format := v.form.Get("format")
	if format != "zip" && format != "html" {
		return errForm
	}
	id := v.param("id")
	file, err := v.self(id).Open(v.f.UserContext(), id, format)
	if errors.Is(err, rights.ErrInput) { // it is sealed to the person's own key
		file, err = v.self(id).Open(v.f.UserContext(), id, "")
	}
	if err != nil {
		return err
	}
	return rights.SendPackage(v.f, file)
}

// cancel takes a request back.
func (v *visit) cancel() error {
	if err := v.person.Throttle(); err != nil {
		return err
	}
	id := v.param("id")
	if _, err := v.self(id).Cancel(v.f.UserContext(), id); err != nil {
		return err
	}
	return v.next("/privacy/requests/"+id, "cancelled")
}

// sendCertificate is what proves an erasure.
func (v *visit) sendCertificate() error {
	id := v.param("id")
	text, err := v.self(id).Certificate(id)
	if err != nil {
		return err
	}
	return v.send("certificate-"+id+".jwt", "application/jwt", []byte(text))
}

// followPage asks for a code.
type followPage struct{ Errors []formError }

// showFollow asks for the code of a request.
func (v *visit) showFollow() error {
	if v.site == nil {
		return errNoSite
	}
	return v.show("follow", &followPage{})
}

// followCode goes to the request of a code, which is in the body and nowhere else.
func (v *visit) followCode() error {
	if err := v.person.Throttle(); err != nil {
		return err
	}
	w, ok := parseCode(v.form.Get("code"))
	if ok {
		_, err := v.p.o.Rights.Self(rights.Visitor{}, w.secret).Request(w.id)
		if err != nil && !errors.Is(err, rights.ErrNoRequest) {
			return err
		}
		ok = err == nil
	}
	if !ok {
		v.f.Status(http.StatusUnprocessableEntity)
		return v.show("follow", &followPage{[]formError{{"code", "no_code"}}})
	}
	v.keep(w)
	return v.next("/privacy/requests/"+w.id, "")
}

// forget makes the browser forget the code.
func (v *visit) forget() error {
	v.keep(follow{})
	return v.next("/privacy", "forgotten")
}
