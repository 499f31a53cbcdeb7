package pseudonymize

import (
	"testing"
	"time"

	"github.com/octroi/octroi/pseudonymize/subject"
)

// FuzzDecode: any bytes are an event or ErrSealed, and an event encodes to what decodes to itself.
func FuzzDecode(f *testing.F) {
	e := Event{
		id: "e1", site: "shop", typ: "page_view", channel: "web", stage: "awareness", time: time.UnixMilli(1), received: time.UnixMilli(2), sequence: 3, live: 1,
		grants: []grant{{"audience", 1, "consent", 5, 6, time.Second}}, values: []value{{"url", "/x", "url_path", 1}}, money: Money{1230, "EUR"}, moneyFor: 1,
	}
	f.Add(e.encode(nil))
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decode(b)
		if err != nil {
			return
		}
		again, err := decode(e.encode(nil))
		if err != nil || again.id != e.id || len(again.grants) != len(e.grants) || len(again.values) != len(e.values) || again.money != e.money {
			t.Fatalf("%v: %+v became %+v", err, e, again)
		}
	})
}

// TestNumberOfNobody: where a grant rests on nobody's record, or on another's, there is no key, and the field is dropped. Load refuses such a policy.
func TestNumberOfNobody(t *testing.T) {
	for _, slot := range []subject.Slot{0, 7} {
		if got := new(Event).blind(slot, Field{"order", "A-1001"}); got != "" {
			t.Errorf("slot %d: %q", slot, got)
		}
	}
}
