// Load offers calls to a server, open (each due at a Poisson time, whatever the server does) or
// closed (as many at a time as there are callers), and prints what came back as JSON.
//
// A latency of an open load counts from when the call was due, not from when it was sent, so that
// a server that stalls is charged for the calls that it kept from being sent (Tene's "coordinated
// omission"). Messages are opaque bytes; the responses of CrossRank are read only for `degraded`.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// Numbers of the fields of RerankResponse that are read.
const (
	degradedField = 7
	reasonField   = 8
)

var reasons = map[uint64]string{
	1: "deadline", 2: "scorer_failed", 3: "scores_not_finite", 4: "overloaded",
}

// opaque passes messages through as they are.
type opaque struct{}

func (opaque) Marshal(v any) ([]byte, error) { return *(v.(*[]byte)), nil }
func (opaque) Unmarshal(data []byte, v any) error {
	*(v.(*[]byte)) = append((*(v.(*[]byte)))[:0], data...)
	return nil
}
func (opaque) Name() string { return "proto" }

type options struct {
	target, method, url, pages, token string
	rate, seconds, deadlineMs         float64
	callers, connections, outstanding int
	crossrank                         bool
}

// send makes one call and returns how it ended: "good", "degraded NAME" or "error NAME".
type send func(ctx context.Context, number int) string

type outcome struct {
	name   string
	tookMs float64
}

func main() {
	var o options
	flag.StringVar(&o.target, "target", "127.0.0.1:50061", "host:port of a gRPC server")
	flag.StringVar(&o.method, "method", "/rerank.v1.RerankService/Rerank", "gRPC method")
	flag.StringVar(&o.url, "url", "", "URL to POST to instead of gRPC")
	flag.StringVar(&o.pages, "pages", "", "file of messages, each after its length (4 bytes, big endian)")
	flag.StringVar(&o.token, "token", "", "bearer token")
	flag.Float64Var(&o.rate, "rate", 0, "calls per second; 0 is a closed load")
	flag.Float64Var(&o.seconds, "seconds", 5, "for how long")
	flag.Float64Var(&o.deadlineMs, "deadline-ms", 1000, "deadline of each call, from when it is due")
	flag.IntVar(&o.callers, "callers", 16, "callers of a closed load")
	flag.IntVar(&o.connections, "connections", 4, "gRPC connections")
	flag.IntVar(&o.outstanding, "outstanding", 2000, "calls at once of an open load; more are not sent")
	flag.BoolVar(&o.crossrank, "crossrank", true, "whether responses are RerankResponse")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	pages, err := readPages(o.pages)
	if err != nil {
		return err
	}
	call, closeAll, err := newSend(o, pages)
	if err != nil {
		return err
	}
	defer closeAll()
	var outcomes []outcome
	var offered, unsent int
	begin := time.Now()
	if o.rate > 0 {
		outcomes, offered, unsent = offerOpen(o, call)
	} else {
		outcomes = offerClosed(o, call)
		offered = len(outcomes)
	}
	took := time.Since(begin).Seconds()
	if o.rate > 0 {
		took = o.seconds
	}
	return json.NewEncoder(os.Stdout).Encode(summary(o, outcomes, offered, unsent, took))
}

func readPages(path string) ([][]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var pages [][]byte
	for len(data) >= 4 {
		size := int(binary.BigEndian.Uint32(data))
		if len(data) < 4+size {
			return nil, fmt.Errorf("%s: got a cut page, want %d bytes", path, size)
		}
		pages = append(pages, data[4:4+size])
		data = data[4+size:]
	}
	if len(pages) == 0 {
		return nil, fmt.Errorf("%s: got no page, want one or more", path)
	}
	return pages, nil
}

func newSend(o options, pages [][]byte) (send, func(), error) {
	if o.url != "" {
		return newHTTPSend(o, pages)
	}
	var connections []*grpc.ClientConn
	closeAll := func() {
		for _, connection := range connections {
			connection.Close()
		}
	}
	for range o.connections {
		connection, err := grpc.NewClient("passthrough:///"+o.target,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(opaque{}), grpc.MaxCallRecvMsgSize(64<<20)),
			grpc.WithDisableRetry())
		if err != nil {
			return nil, closeAll, err
		}
		connections = append(connections, connection)
	}
	call := func(ctx context.Context, number int) string {
		page := pages[number%len(pages)]
		if o.token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+o.token)
		}
		var answer []byte
		err := connections[number%len(connections)].Invoke(ctx, o.method, &page, &answer)
		if err != nil {
			return "error " + status.Code(err).String()
		}
		if o.crossrank {
			if reason := degradedReason(answer); reason != "" {
				return "degraded " + reason
			}
		}
		return "good"
	}
	return call, closeAll, nil
}

func newHTTPSend(o options, pages [][]byte) (send, func(), error) {
	transport := &http.Transport{
		MaxIdleConns:        o.outstanding,
		MaxIdleConnsPerHost: o.outstanding,
		TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{},
		DialContext:         (&net.Dialer{}).DialContext,
	}
	client := &http.Client{Transport: transport}
	call := func(ctx context.Context, number int) string {
		body := bytes.NewReader(pages[number%len(pages)])
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url, body)
		if err != nil {
			return "error request"
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := client.Do(request)
		if err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				return "error DeadlineExceeded"
			}
			return "error connection"
		}
		defer response.Body.Close()
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			return "error body"
		}
		if response.StatusCode != http.StatusOK {
			return fmt.Sprintf("error %d", response.StatusCode)
		}
		return "good"
	}
	return call, transport.CloseIdleConnections, nil
}

// degradedReason returns why a RerankResponse is degraded; empty when it is not.
func degradedReason(data []byte) string {
	degraded, reason := false, "unspecified"
	for len(data) > 0 {
		field, kind, size := protowire.ConsumeTag(data)
		if size < 0 {
			return "unreadable"
		}
		data = data[size:]
		if kind == protowire.VarintType && (field == degradedField || field == reasonField) {
			value, size := protowire.ConsumeVarint(data)
			if size < 0 {
				return "unreadable"
			}
			if field == degradedField {
				degraded = value != 0
			} else if name, known := reasons[value]; known {
				reason = name
			}
			data = data[size:]
			continue
		}
		size = protowire.ConsumeFieldValue(field, kind, data)
		if size < 0 {
			return "unreadable"
		}
		data = data[size:]
	}
	if !degraded {
		return ""
	}
	return reason
}

func offerClosed(o options, call send) []outcome {
	var wait sync.WaitGroup
	var number atomic.Int64
	all := make([][]outcome, o.callers)
	end := time.Now().Add(time.Duration(o.seconds * float64(time.Second)))
	for caller := range o.callers {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for time.Now().Before(end) {
				all[caller] = append(all[caller], timed(o, call, int(number.Add(1)), time.Now()))
			}
		}()
	}
	wait.Wait()
	var outcomes []outcome
	for _, one := range all {
		outcomes = append(outcomes, one...)
	}
	return outcomes
}

func offerOpen(o options, call send) ([]outcome, int, int) {
	random := rand.New(rand.NewSource(1))
	var dues []time.Duration
	for at := random.ExpFloat64() / o.rate; at < o.seconds; at += random.ExpFloat64() / o.rate {
		dues = append(dues, time.Duration(at*float64(time.Second)))
	}
	outcomes := make([]outcome, len(dues))
	var wait sync.WaitGroup
	var open atomic.Int64
	unsent := 0
	begin := time.Now()
	for number, at := range dues {
		due := begin.Add(at)
		time.Sleep(time.Until(due))
		if int(open.Load()) >= o.outstanding {
			unsent++
			outcomes[number] = outcome{name: "error not sent"}
			continue
		}
		open.Add(1)
		wait.Add(1)
		go func() {
			defer wait.Done()
			defer open.Add(-1)
			outcomes[number] = timed(o, call, number, due)
		}()
	}
	wait.Wait()
	return outcomes, len(dues), unsent
}

func timed(o options, call send, number int, due time.Time) outcome {
	deadline := due.Add(time.Duration(o.deadlineMs * float64(time.Millisecond)))
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	name := call(ctx, number)
	took := float64(time.Since(due).Microseconds()) / 1000
	if name == "good" && took > o.deadlineMs {
		name = "late"
	}
	return outcome{name, took}
}

func summary(o options, outcomes []outcome, offered, unsent int, seconds float64) map[string]any {
	times := map[string][]float64{}
	perSecond := map[string]float64{}
	for _, one := range outcomes {
		times[one.name] = append(times[one.name], one.tookMs)
		perSecond[one.name] += 1 / seconds
	}
	latencies := map[string]map[string]float64{}
	for name, values := range times {
		sort.Float64s(values)
		latencies[name] = map[string]float64{}
		for label, share := range map[string]float64{"p50": .5, "p90": .9, "p99": .99, "p999": .999} {
			latencies[name][label] = values[min(len(values)-1, int(share*float64(len(values))))]
		}
	}
	return map[string]any{
		"offered_per_s": float64(offered) / seconds,
		"per_s":         perSecond,
		"latency_ms":    latencies,
		"not_sent":      unsent,
		"seconds":       seconds,
		"rate":          o.rate,
		"callers":       o.callers,
	}
}
