package rights

import (
	"testing"
	"time"

	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/export/s3test"
)

// On a versioned bucket, with credentials of the gateway that may only put and get: an erasure ends, no version of the former object is left, and
// what was put into the journal is there.
func TestErasureOnS3(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	limited := s3test.Open(t, server.Limited("s3:GetObject", "s3:GetObjectVersion", "s3:PutObject", "s3:GetBucketVersioning"))
	w := openStored(t, t.TempDir(), limited, s3test.Open(t, server.Options()), func(o *Options) { o.Notices = time.Minute })
	_, s := w.mint(t)
	_, other := w.mint(t)
	w.pages(t, s, 2, "gone")
	w.pages(t, other, 3, "kept")
	w.ship(t)
	q := w.end(t, &servant{w: w, name: "custodian-one"}, w.ask(t, proof.Erasure, s).ID)
	if q.State != Completed || q.Done != 1 {
		t.Fatalf("%+v", q)
	}
	if rows := w.everyRow(t, "warehouse"); len(rows) != 3 {
		t.Errorf("%d rows are left, want 3", len(rows))
	}
	if all := server.Versions("warehouse/events/"); len(all) != 1 {
		t.Errorf("versions: %v", all)
	}
	if all := server.Versions("suppressions/a/"); len(all) != 1 {
		t.Errorf("journal: %v", all)
	}
}
