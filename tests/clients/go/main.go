// A shop's calls to recserv, on code generated from protos/: ./shop HOST:PORT. One JSON line a step.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log"
	mathrand "math/rand/v2"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	recservv1 "example.com/shop/gen/recserv/v1"
)

const (
	// Generous, so that a first call on a cold machine is in time; a shop's page would wait for 200 ms.
	deadline    = 10 * time.Second
	attemptsMax = 5
)

type line map[string]any

func say(step string, what line) {
	what["step"] = step
	if err := json.NewEncoder(os.Stdout).Encode(what); err != nil {
		log.Fatal(err)
	}
}

// shop makes the calls of one visit.
type shop struct {
	client    recservv1.RecommendationServiceClient
	sessionID string
}

func (s shop) event(kind recservv1.EventType, itemID string) *recservv1.Event {
	return &recservv1.Event{EventId: rand.Text(), EventType: kind, SessionId: s.sessionID, ItemId: itemID}
}

func health(ctx context.Context, connection *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	request := &healthv1.HealthCheckRequest{Service: recservv1.RecommendationService_ServiceDesc.ServiceName}
	answer, err := healthv1.NewHealthClient(connection).Check(ctx, request)
	if err != nil {
		return err
	}
	say("health", line{"status": answer.Status.String()})
	return nil
}

func itemIDs(answer *recservv1.RecommendResponse) []string {
	ids := make([]string, 0, len(answer.Results))
	for _, result := range answer.Results {
		ids = append(ids, result.ItemId)
	}
	return ids
}

func (s shop) recommend(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	answer, err := s.client.Recommend(ctx, &recservv1.RecommendRequest{SessionId: s.sessionID, PageSize: 3})
	if err != nil {
		return nil, err
	}
	say("recommend", line{"item_ids": itemIDs(answer), "degraded": answer.Degraded})
	return itemIDs(answer), nil
}

// ingest sends the same event, with the same id, until it is acknowledged: it counts once however often it arrives.
func (s shop) ingest(ctx context.Context, event *recservv1.Event) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	for attempt := 1; ; attempt++ {
		answer, err := s.client.IngestEvent(ctx, &recservv1.IngestEventRequest{Event: event})
		if err == nil {
			say("ingest", line{
				"session_id": s.sessionID, "event_id": event.EventId, "status": answer.Status.String(), "attempts": attempt,
			})
			return nil
		}
		failure := status.Convert(err)
		retried := failure.Code() == codes.Unavailable || failure.Code() == codes.ResourceExhausted
		if !retried || attempt == attemptsMax {
			return err
		}
		select {
		case <-time.After(retryDelay(failure, attempt)):
		case <-ctx.Done():
			return err
		}
	}
}

// retryDelay is what the server asks for; else a span that doubles, drawn so that clients do not come back together.
func retryDelay(failure *status.Status, attempt int) time.Duration {
	for _, detail := range failure.Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			return retry.RetryDelay.AsDuration()
		}
	}
	span := 50 * time.Millisecond << attempt
	return span/2 + mathrand.N(span/2)
}

// stream sends many events over one call; answers come in order, a status for each event.
func (s shop) stream(ctx context.Context, events ...*recservv1.Event) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	stream, err := s.client.StreamEvents(ctx)
	if err != nil {
		return err
	}
	go func() {
		for _, event := range events {
			if stream.Send(&recservv1.StreamEventsRequest{Events: []*recservv1.Event{event}}) != nil {
				return // Recv has the reason.
			}
		}
		_ = stream.CloseSend()
	}()
	results := []line{}
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			say("stream", line{"results": results})
			return nil
		}
		if err != nil {
			return err
		}
		for _, result := range answer.Results {
			results = append(results, line{"event_id": result.EventId, "status": result.Status.String()})
		}
	}
}

func (s shop) context(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	answer, err := s.client.GetContext(ctx, &recservv1.GetContextRequest{SessionId: s.sessionID})
	if err != nil {
		return err
	}
	say("context", line{
		"recent_item_ids": append([]string{}, answer.RecentItemIds...),
		"cart_item_ids":   append([]string{}, answer.CartItemIds...),
		"event_count":     answer.EventCount,
	})
	return nil
}

// batch gets a status for each request: the bad one does not spoil the good one.
func (s shop) batch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	answer, err := s.client.BatchRecommend(ctx, &recservv1.BatchRecommendRequest{Requests: []*recservv1.RecommendRequest{
		{SessionId: s.sessionID, PageSize: 2},
		{SessionId: s.sessionID, PageSize: 101},
	}})
	if err != nil {
		return err
	}
	for _, entry := range answer.Responses {
		switch outcome := entry.Outcome.(type) {
		case *recservv1.BatchRecommendEntry_Response:
			say("batch", line{"item_ids": itemIDs(outcome.Response)})
		case *recservv1.BatchRecommendEntry_Error:
			say("batch", described(status.FromProto(outcome.Error)))
		}
	}
	return nil
}

func (s shop) badRequest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	_, err := s.client.Recommend(ctx, &recservv1.RecommendRequest{PageSize: 101})
	if err == nil {
		return errors.New("a page of 101 was answered")
	}
	say("bad_request", described(status.Convert(err)))
	return nil
}

// described is what a status says to a program.
func described(failure *status.Status) line {
	said := line{"code": failure.Code()}
	for _, detail := range failure.Details() {
		switch detail := detail.(type) {
		case *errdetails.BadRequest:
			violations := []line{}
			for _, one := range detail.FieldViolations {
				violations = append(violations, line{"field": one.Field, "reason": one.Reason})
			}
			said["violations"] = violations
		case *errdetails.ErrorInfo:
			said["reason"] = detail.Reason
		}
	}
	return said
}

func run(ctx context.Context, target string) error {
	connection, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := health(ctx, connection); err != nil {
		return err
	}
	s := shop{client: recservv1.NewRecommendationServiceClient(connection), sessionID: rand.Text()}
	items, err := s.recommend(ctx)
	if err != nil {
		return err
	}
	if err := s.ingest(ctx, s.event(recservv1.EventType_EVENT_TYPE_VIEW, items[0])); err != nil {
		return err
	}
	if err := s.context(ctx); err != nil {
		return err
	}
	carted := s.event(recservv1.EventType_EVENT_TYPE_ADD_TO_CART, items[1])
	noType := s.event(recservv1.EventType_EVENT_TYPE_UNSPECIFIED, items[1])
	if err := s.stream(ctx, carted, noType); err != nil {
		return err
	}
	if err := s.context(ctx); err != nil {
		return err
	}
	if err := s.batch(ctx); err != nil {
		return err
	}
	return s.badRequest(ctx)
}

func main() {
	if err := run(context.Background(), os.Args[1]); err != nil {
		log.Fatal(err)
	}
}
