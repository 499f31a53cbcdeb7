package collector_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/collector/spool"
	"github.com/valyala/fasthttp"
)

// BenchmarkAdmission is one POST from the parsed request to the bytes of its answer: decode, gate, pseudonymise, durable append. 64 requests wait
// for each other's fsync, as 64 connections would.
func BenchmarkAdmission(b *testing.B) {
	for _, events := range []int{1, 20} {
		b.Run(fmt.Sprintf("events=%d", events), func(b *testing.B) {
			e := open(b, func(o *collector.Options, s *spool.Options) { o.Log, s.MaxBytes = nil, 16<<30 })
			cookie, _ := e.agree("audience")
			handle := e.edge.App().Handler()
			var n atomic.Uint64
			b.SetParallelism(32)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				var ctx fasthttp.RequestCtx // one a connection, as the server has it
				for pb.Next() {
					first := n.Add(uint64(events))
					if status := admit(handle, &ctx, cookie, body(first, events)); status != 202 {
						b.Errorf("status %d", status)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N*events)/b.Elapsed().Seconds(), "events/s")
			if got := e.edge.Counts().Accepted["product_view"]; got != uint64(b.N*events) {
				b.Errorf("%d of %d events were accepted", got, b.N*events)
			}
		})
	}
}

func body(first uint64, events int) string {
	var s strings.Builder
	if events > 1 {
		s.WriteByte('[')
	}
	for i := range events {
		if i > 0 {
			s.WriteByte(',')
		}
		fmt.Fprintf(&s, `{"id":"01903e6c-70a1-7cc4-a3f2-%012d","type":"product_view","channel":"web","fields":{"url":"https://shop.example/p/1928374/red-shoes?gclid=x&utm_source=newsletter",`+
			`"title":"Chaussures rouges","referrer":"https://search.example/results?q=red+shoes","campaign":"spring-sale","source":"newsletter","medium":"email","sku":"1928374",`+
			`"category":"shoes/women","screen":"1920x1080","language":"fr-FR","position":3,"in_stock":true,"value":{"amount":"129.90","currency":"EUR"}}}`, first+uint64(i))
	}
	if events > 1 {
		s.WriteByte(']')
	}
	return s.String()
}

func admit(handle fasthttp.RequestHandler, ctx *fasthttp.RequestCtx, cookie, body string) int {
	ctx.Request.Reset()
	ctx.Response.Reset()
	ctx.Request.Header.SetMethod("POST")
	ctx.Request.SetRequestURI("/v1/events?k=demo")
	ctx.Request.Header.SetContentType("application/json")
	ctx.Request.Header.Set("Cookie", cookie)
	ctx.Request.Header.Set("Origin", origin)
	ctx.Request.Header.SetUserAgent("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36")
	ctx.Request.SetBodyString(body)
	handle(ctx)
	return ctx.Response.StatusCode()
}
