// Command real runs the product on real input: every purchase of 23,570 customers of a music shop (CDNOW, 1997–98), through the real programs
// and a real S3 server, with programs killed at random meanwhile; then it holds what was loaded against a count of the text file. Then ten
// customers ask for access, and a hundred others are erased while programs are killed; what is left is held against the text file again, and
// row by row against what was before.
//
//	go run ./deploy/real --data ../shared/data/cdnow/CDNOW_master.txt --bin ./bin
//
// It exits with 0 only when every figure is equal to the cent.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

// run is one run: where it works, and what it talks to.
type run struct {
	bin, dir, data  string
	versitygw       string
	public, private string
	bucket          *bucket
	sales           []sale
	customers       []customer
	shift           int // days
	gatewayKills    int
	loaderKills     int
	rightsKills     int // of each program
	keep            bool
	lake            *lake               // nil where there is no PostgreSQL
	held            holdings            // before anybody is erased
	versions        map[string]versions // of the objects, by destination; before anybody is erased
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r := new(run)
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	flag.StringVar(&r.data, "data", envOr("CDNOW", "../shared/data/cdnow/CDNOW_master.txt"), "CDNOW_master.txt")
	flag.StringVar(&r.bin, "bin", "bin", "folder of octroi, octroi-load and octroi-custodian")
	flag.StringVar(&r.versitygw, "versitygw", envOr("OCTROI_VERSITYGW", filepath.Join(cache, "octroi", "bin", "versitygw")), "the S3 server")
	flag.IntVar(&r.gatewayKills, "gateway-kills", 10, "times the gateway is killed (kill -9)")
	flag.IntVar(&r.loaderKills, "loader-kills", 5, "times a loader is killed")
	flag.IntVar(&r.rightsKills, "rights-kills", 5, "times that gateway, custodian and loaders are each killed while customers are erased")
	flag.BoolVar(&r.keep, "keep", false, "keep the working folder")
	flag.Parse()
	start := time.Now()
	if err := r.all(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "real:", err)
		os.Exit(1)
	}
	fmt.Printf("real: all figures are equal; %s\n", time.Since(start).Round(time.Second))
}

func envOr(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

// all is the run from the text file to the comparison.
func (r *run) all(ctx context.Context) (err error) {
	if err := r.read(); err != nil {
		return err
	}
	if r.dir, err = os.MkdirTemp("", "octroi-real-"); err != nil {
		return err
	}
	if r.keep {
		fmt.Println("working in", r.dir)
	} else {
		defer os.RemoveAll(r.dir)
	}
	if r.bucket, err = startBucket(r.versitygw, filepath.Join(r.dir, "s3")); err != nil {
		return err
	}
	defer r.bucket.stop()
	if r.lake, err = r.startLake(ctx); err != nil {
		return err
	}
	defer r.lake.stop()
	if err := r.install(ctx); err != nil {
		return err
	}
	if err := r.traffic(ctx); err != nil {
		return err
	}
	if err := r.compare(ctx); err != nil {
		return err
	}
	return r.rights(ctx)
}

// rights lets customers ask for access, and others for erasure, and compares again.
func (r *run) rights(ctx context.Context) (err error) {
	if r.versions, err = r.readAll(ctx, r.held); err != nil {
		return err
	}
	o, err := r.openOffice(ctx)
	if err != nil {
		return err
	}
	asking, leaving := r.choose()
	if err := r.access(ctx, o, asking); err != nil {
		return fmt.Errorf("access: %w", err)
	}
	if err := r.erase(ctx, o, leaving); err != nil {
		return fmt.Errorf("erasure: %w", err)
	}
	return nil
}

// traffic imports the consents, then sends the purchases, while programs are killed; it returns when all is shipped and loaded.
func (r *run) traffic(ctx context.Context) error {
	gateway := r.serve()
	if err := r.awaitReady(ctx); err != nil {
		return errors.Join(err, gateway.end())
	}
	loaders := r.follow(nil)
	killed := []doomed{{"gateway", []*supervised{gateway}, r.gatewayKills}, {"loaders", loaders, r.loaderKills}}
	err := r.killing(ctx, 2*time.Second, func() error { return r.send(ctx) }, killed...)
	if err := errors.Join(err, end(append([]*supervised{gateway}, loaders...))); err != nil {
		return err
	}
	printKills("", killed...)
	return r.loadRest(ctx)
}

func (r *run) serve() *supervised {
	return r.supervise("gateway", filepath.Join(r.bin, "octroi"), "serve", "--config", r.path("gateway", "octroi.yaml"))
}

// follow starts a loader for each destination, with what acks says beside.
func (r *run) follow(acks func(destination) []string) (loaders []*supervised) {
	for _, d := range destinations {
		args := append([]string{"follow"}, r.loadArgs(d)...)
		if acks != nil {
			args = append(args, acks(d)...)
		}
		loaders = append(loaders, r.supervise("load-"+d.name, filepath.Join(r.bin, "octroi-load"), args...))
	}
	return loaders
}

// end asks the programs to stop, one after the other.
func end(programs []*supervised) (err error) {
	for _, s := range programs {
		err = errors.Join(err, s.end())
	}
	return err
}

// loadRest loads what the loaders had not loaded when they were stopped.
func (r *run) loadRest(ctx context.Context) error {
	for _, d := range destinations {
		if err := r.exec(ctx, filepath.Join(r.bin, "octroi-load"), append([]string{"once"}, r.loadArgs(d)...)...); err != nil {
			return err
		}
	}
	return nil
}
