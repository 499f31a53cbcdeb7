package native

import (
	"testing"

	"github.com/octroi/octroi/collector/wire"
)

func FuzzDecodeTrace(f *testing.F) {
	f.Add(`{"device":"x","site":"shop","id":"1"}`)
	f.Add(`{"subject":{"loyalty":"1"},"site":"shop","id":"1"}`)
	f.Add(`{"device":null,"site":"\ud800","id":1e3}`)
	f.Fuzz(func(t *testing.T, body string) {
		in, err := DecodeTrace(body)
		if err != nil {
			return
		}
		if (in.Device == "") == (len(in.Subject) == 0) || in.Site == "" || in.ID == "" || len(in.ID) > wire.MaxIDBytes || len(in.Device) > wire.MaxWordBytes {
			t.Fatalf("%d bytes of a device, %d identifiers, %d bytes of an id", len(in.Device), len(in.Subject), len(in.ID))
		}
	})
}
