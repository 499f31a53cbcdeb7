// Command real runs the product on real input: every purchase of 23,570 customers of a music shop (CDNOW, 1997–98), through the real programs
// and a real S3 server, with programs killed at random meanwhile; then it holds what was loaded against a count of the text file.
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
	keep            bool
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
	flag.StringVar(&r.bin, "bin", "bin", "folder of octroi and octroi-load")
	flag.StringVar(&r.versitygw, "versitygw", envOr("OCTROI_VERSITYGW", filepath.Join(cache, "octroi", "bin", "versitygw")), "the S3 server")
	flag.IntVar(&r.gatewayKills, "gateway-kills", 10, "times the gateway is killed (kill -9)")
	flag.IntVar(&r.loaderKills, "loader-kills", 5, "times a loader is killed")
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
	if err := r.install(ctx); err != nil {
		return err
	}
	if err := r.traffic(ctx); err != nil {
		return err
	}
	return r.compare(ctx)
}

// traffic imports the consents, then sends the purchases, while programs are killed; it returns when all is shipped and loaded.
func (r *run) traffic(ctx context.Context) error {
	gateway := r.supervise("gateway", filepath.Join(r.bin, "octroi"), "serve", "--config", r.path("gateway", "octroi.yaml"))
	if err := r.awaitReady(ctx); err != nil {
		return errors.Join(err, gateway.end())
	}
	var loaders []*supervised
	for _, d := range destinations {
		loaders = append(loaders, r.supervise("load-"+d.name, filepath.Join(r.bin, "octroi-load"), append([]string{"follow"}, r.loadArgs(d)...)...))
	}
	killing, stopKilling := context.WithCancel(ctx)
	killed := make(chan int, 1)
	go func() { killed <- r.kill(killing, gateway, loaders) }()
	err := r.send(ctx)
	if err == nil {
		err = r.finishKills(ctx, gateway, loaders)
	}
	stopKilling()
	<-killed
	err = errors.Join(err, gateway.end())
	for _, l := range loaders {
		err = errors.Join(err, l.end())
	}
	if err != nil {
		return err
	}
	fmt.Printf("killed (-9): gateway %d times, loaders %d times\n", gateway.kills.Load(), loaders[0].kills.Load()+loaders[1].kills.Load())
	for _, d := range destinations {
		if err := r.exec(ctx, filepath.Join(r.bin, "octroi-load"), append([]string{"once"}, r.loadArgs(d)...)...); err != nil {
			return err
		}
	}
	return nil
}
