// Rerank sends one page to a rerank server and prints its new order. Whatever goes wrong, it prints
// the page in retrieval order with the reason: a search never fails because of its reranking.
//
//	go run . -server localhost:50061 -query milk 1029743 995242
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	rerankv1 "crossrank/example/rerankv1"
)

// Reranking changes nothing, so a page may be sent again when the server went away; clients that
// fail often stop doing so (retryThrottling). round_robin shares calls between all addresses.
const serviceConfig = `{
	"loadBalancingConfig": [{"round_robin": {}}],
	"methodConfig": [{
		"name": [{"service": "rerank.v1.RerankService"}],
		"retryPolicy": {
			"maxAttempts": 2, "initialBackoff": "0.005s", "maxBackoff": "0.05s",
			"backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]
		}
	}],
	"retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1}
}`

// Answer is a page in its new order, or in retrieval order with a reason.
type Answer struct {
	CandidateIDs []string
	Scores       []float32 // empty when degraded
	Degraded     string    // why this is the retrieval order; empty when it was scored
}

// Rerank returns the page in the server's order within the timeout, or in retrieval order.
func Rerank(
	ctx context.Context, client rerankv1.RerankServiceClient,
	request *rerankv1.RerankRequest, timeout time.Duration, token string,
) Answer {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	response, err := client.Rerank(ctx, request)
	if err != nil {
		return Answer{
			CandidateIDs: request.CandidateIds,
			Degraded:     fmt.Sprintf("%s: %s", status.Code(err), status.Convert(err).Message()),
		}
	}
	answer := Answer{CandidateIDs: response.CandidateIds, Scores: response.Scores}
	if response.Degraded {
		answer.Degraded = response.DegradedReason.String() + ": " + response.DegradedDetail
	}
	return answer
}

func main() {
	server := flag.String("server", "localhost:50061", "address of the server")
	query := flag.String("query", "", "what the shopper typed")
	timeout := flag.Duration("timeout", 200*time.Millisecond, "longest time for the page")
	ca := flag.String("ca", "", "PEM of who signed the server's certificate; means TLS")
	token := flag.String("token", "", "bearer token")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "rerank: candidates: got 0, want product ids in retrieval order")
		os.Exit(2)
	}
	transport := insecure.NewCredentials()
	if *ca != "" {
		var err error
		if transport, err = credentials.NewClientTLSFromFile(*ca, ""); err != nil {
			fmt.Fprintf(os.Stderr, "rerank: %s: %v\n", *ca, err)
			os.Exit(1)
		}
	}
	connection, err := grpc.NewClient(
		*server,
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
	)
	if err != nil {
		fmt.Fprintf(os.Stderr, "rerank: %s: %v\n", *server, err)
		os.Exit(1)
	}
	defer connection.Close()
	answer := Rerank(
		context.Background(), rerankv1.NewRerankServiceClient(connection),
		&rerankv1.RerankRequest{CandidateIds: flag.Args(), Query: *query}, *timeout, *token,
	)
	if answer.Degraded != "" {
		fmt.Fprintln(os.Stderr, "retrieval order:", answer.Degraded)
	}
	for rank, id := range answer.CandidateIDs {
		if len(answer.Scores) > rank {
			fmt.Printf("%s\t%g\n", id, answer.Scores[rank])
		} else {
			fmt.Println(id)
		}
	}
}
