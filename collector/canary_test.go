package collector_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/prometheus/common/expfmt"
)

// TestCanaries is C9 and invariant 3: a value of its own is planted in each input; then logs, metrics, answers and every file of state,
// subjects and spool are searched for each, in several encodings.
func TestCanaries(t *testing.T) {
	e := openLogin(t)
	n := 0
	var canaries []string
	plant := func() string {
		n++
		c := fmt.Sprintf("canary%04dx", 1000+n)
		canaries = append(canaries, c)
		return c
	}
	var answers strings.Builder
	post := func(path, body string, header ...string) {
		header = append(header, "User-Agent", "Mozilla/5.0 Firefox/140.0 "+plant(), "Referer", "https://shop.example/p?"+plant(), "X-Forwarded-For", "203.0.113.77, "+plant(), "X-"+plant(), plant())
		a := e.post(path, body, header...)
		answers.WriteString(a.body)
		fmt.Fprint(&answers, a.header)
	}
	cookie, _ := e.agree("audience", policies.Linking)
	credential := strings.TrimPrefix(cookie, "octroi-dev=")
	write := e.token(collector.TokenClaims{Scopes: []string{collector.ScopeEvents, collector.ScopeConsent, collector.ScopeIdentify}, Declare: []string{"service"}, Sites: []string{"shop"}})

	field := func() string {
		return `{"url":"https://u:` + plant() + `@shop.example/p/1?q=` + plant() + `#` + plant() + `","` + plant() + `":"` + plant() + `","search_terms":"` + plant() + `","order":"` + plant() + `","coupon":"` + plant() + `","score":"` + plant() + `"}`
	}
	post("/v1/events?k=demo", `{"id":"1","type":"page_view","fields":`+field()+`}`, "Cookie", cookie)                                         // accepted
	post("/v1/events?k=demo", `{"id":"2","type":"page_view","fields":`+field()+`}`)                                                           // no consent
	post("/v1/events?k=demo", `{"id":"3","type":"`+plant()+`","channel":"`+plant()+`"}`, "Cookie", cookie)                                    // unknown type
	post("/v1/events?k=demo", `{"id":"4","type":"page_view","site":"`+plant()+`"}`, "Cookie", cookie)                                         // unknown site
	post("/v1/events?k=demo", `{"id":"5","type":"page_view","channel":"`+plant()+`","`+plant()+`":"`+plant()+`"}`, "Cookie", cookie)          // stranger
	post("/v1/events?k=demo", `{"id":"6","type":"page_view","fields":{"value":{"amount":"`+plant()+`","currency":"EUR"}}}`, "Cookie", cookie) // amount
	post("/v1/events?k="+plant(), `{"id":"`+plant()+`"}`)
	post("/v1/events?k=demo&"+plant()+"="+plant(), `{"`+plant())
	post("/v1/events?k=demo", `{}`, "Authorization", "Bearer "+plant()+"."+plant()+"."+plant())
	post("/v1/events?k=demo", `{}`, "Authorization", "Bearer "+plant())
	post("/v1/events?k=demo", `{}`, "Content-Type", plant())
	post("/v1/events?k=demo", `{}`, "Content-Encoding", plant())
	post("/v1/events?k=demo", `{}`, "Origin", "https://"+plant()+".example")
	post("/v1/events", `{"id":"7","type":"store_purchase","subject":{"loyalty":"`+plant()+`","email":"`+plant()+`@mail.example"},"fields":`+field()+`}`, "Authorization", write)
	post("/v1/events", `{"id":"8","type":"store_purchase","subject":{"`+plant()+`":"`+plant()+`"}}`, "Authorization", write)
	post("/v1/events", `{"id":"9","type":"store_purchase","device":"`+plant()+`"}`, "Authorization", write)
	post("/v1/consents", `{"purposes":{"audience":false},"subject":{"loyalty":"`+plant()+`","user":"`+plant()+`"}}`, "Authorization", write)
	post("/v1/consents?k=demo", `{"purposes":{"`+plant()+`":true}}`)
	post("/v1/consents?k=demo", `{"purposes":{"`+plant()+`":false}}`)
	post("/v1/consents?k=demo", `{"snapshot":"`+plant()+`","purposes":{"audience":true}}`)
	post("/v1/consents?k=demo", `{"purposes":{"audience":false},"`+plant()+`":"`+plant()+`"}`)
	post("/v1/consents?k=demo", `{"purposes":{"audience":false},"signals":{"`+plant()+`":"x","gcm":{"`+plant()+`":"`+plant()+`"}}}`)
	post("/v1/consents?k=demo", `{"snapshot":"`+e.snapshot()+`","purposes":{"audience":true}}`, "Cookie", cookie, "Cookie", "octroi-refused="+plant())
	post("/v1/consents/withdraw?k=demo", `{"purposes":["`+plant()+`"]}`, "Cookie", cookie)
	post("/v1/consents/withdraw", `{"subject":{"phone":"`+plant()+`"}}`, "Authorization", write)
	post("/v1/"+plant(), `{}`)
	e.get("/v1/notice?k=demo&language=" + plant())
	e.get("/v1/notices/" + plant())
	e.get("/v1/consents/current?k=demo", "Cookie", "octroi-refused="+plant())
	rows := e.rows("audience")
	if len(rows) != 1 || !pseudonymize.Pseudonymised(rows[0].Properties["order"]) || !pseudonymize.Pseudonymised(rows[0].Properties["coupon"]) || rows[0].Properties["score"] != "" {
		t.Errorf("audience's rows are %+v", rows)
	}
	identify := func(claim string) {
		post("/v1/identify?k=demo", `{"claim":"`+claim+`"}`, "Cookie", cookie, "Origin", origin)
	}
	whole := e.claim(plant(), "user", plant(), "loyalty", plant(), "email", plant()+"@mail.example")
	identify(whole)
	if !strings.Contains(answers.String(), `{"linked":true`) {
		t.Fatal("nobody is linked")
	}
	identify(whole[:len(whole)-4] + "AAAA")           // forged
	identify(e.claim(plant(), plant(), plant()))      // an identifier of no kind
	identify(e.claim(plant(), "phone", plant()))      // no phone number
	identify(plant() + "." + plant() + "." + plant()) // no token
	post("/v1/identify?k=demo", `{"claim":"`+whole+`","`+plant()+`":1}`, "Cookie", cookie)
	post("/v1/identify", `{"device":"`+plant()+`","subject":{"user":"`+plant()+`"}}`, "Authorization", write)
	post("/v1/identify", `{"device":"`+credential+`","subject":{"user":"`+plant()+`","`+plant()+`":"x"}}`, "Authorization", write)
	canaries = append(canaries, strings.Split(whole, ".")[1:]...)
	late := e.claim(plant(), "user", plant())
	if err := e.state.Close(); err != nil {
		t.Fatal(err)
	}
	identify(late)
	post("/v1/consents?k=demo", `{"purposes":{"audience":false},"method":"`+plant()+`","source":null}`, "Cookie", cookie)
	post("/v1/events", `{"id":"10","type":"store_purchase","subject":{"loyalty":"`+plant()+`"}}`, "Authorization", write)
	if err := e.spool.Close(); err != nil {
		t.Fatal(err)
	}

	places := map[string]string{"audience's rows": fmt.Sprintf("%+v", rows), "the logs": e.logs.String(), "the metrics": e.metricsText(), "an answer": answers.String()}
	files := 0
	err := filepath.WalkDir(e.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		places["file "+strings.TrimPrefix(path, e.dir)] = string(b)
		files++
		return err
	})
	if err != nil || files < 3 {
		t.Fatalf("%d files, error %v", files, err)
	}
	for _, canary := range canaries {
		for place, content := range places {
			if strings.Contains(content, canary) || strings.Contains(content, fmt.Sprintf("%x", canary)) {
				t.Errorf("%s holds %s of %d planted values", place, canary, len(canaries))
			}
		}
	}
	if len(canaries) < 100 || !strings.Contains(places["the logs"], "a request failed") || !strings.Contains(places["the metrics"], "octroi_events_refused_total") {
		t.Errorf("%d values planted; the search would find nothing", len(canaries))
	}
	for place, content := range places { // in its own cookie, and nowhere else
		if place != "an answer" && (strings.Contains(content, credential) || strings.Contains(content, strings.TrimPrefix(write, "Bearer "))) {
			t.Errorf("%s holds a credential or a token", place)
		}
	}
	for _, place := range []string{"the logs", "the metrics"} {
		if strings.Contains(places[place], "127.0.0.1") || strings.Contains(places[place], "mail.example") || strings.Contains(places[place], "203.0.113") {
			t.Errorf("%s hold an address", place)
		}
	}
}

func (e *edge) metricsText() string {
	e.t.Helper()
	families, err := e.metrics.Gather()
	if err != nil {
		e.t.Fatal(err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			e.t.Fatal(err)
		}
	}
	return b.String()
}
