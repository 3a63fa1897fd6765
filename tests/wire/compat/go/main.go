// A client of compat.proto by grpc-go: `go-client TARGET probing|fixed`. Prints a line of JSON for
// each check.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"chinwag/tests/wire/compat/gen"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const text = "what went wrong: 50 % and ünïcode\n"

type check struct {
	name string
	run  func(context.Context, gen.CompatClient) error
}

func wrong(format string, values ...any) error { return fmt.Errorf(format, values...) }

var checks = []check{
	{"unary", func(ctx context.Context, c gen.CompatClient) error {
		for _, size := range []int{0, 1, 100, 16384, 65536, 1 << 20, 4<<20 - 64} {
			answer, err := c.Echo(ctx, &gen.EchoRequest{Payload: make([]byte, size)})
			if err != nil || len(answer.Payload) != size {
				return wrong("%d bytes: %v", size, err)
			}
		}
		return nil
	}},
	{"gzip", func(ctx context.Context, c gen.CompatClient) error {
		request := &gen.EchoRequest{Payload: make([]byte, 100000), Compress: true}
		answer, err := c.Echo(ctx, request, grpc.UseCompressor(gzip.Name))
		if err != nil || len(answer.Payload) != 100000 {
			return wrong("%v", err)
		}
		return nil
	}},
	{"server_stream", func(ctx context.Context, c gen.CompatClient) error {
		stream, err := c.Repeat(ctx, &gen.RepeatRequest{Count: 300, Size: 20000})
		if err != nil {
			return err
		}
		for number := uint32(0); ; number++ {
			answer, err := stream.Recv()
			if err == io.EOF && number == 300 {
				return nil
			}
			if err != nil || answer.Number != number {
				return wrong("message %d: %v", number, err)
			}
		}
	}},
	{"client_stream", func(ctx context.Context, c gen.CompatClient) error {
		stream, err := c.Collect(ctx)
		if err != nil {
			return err
		}
		for range 300 {
			if err := stream.Send(&gen.EchoRequest{Payload: make([]byte, 10000)}); err != nil {
				return err
			}
		}
		answer, err := stream.CloseAndRecv()
		if err != nil || answer.Messages != 300 || answer.Bytes != 3000000 {
			return wrong("%v %v", answer, err)
		}
		return nil
	}},
	{"half_close", func(ctx context.Context, c gen.CompatClient) error {
		stream, err := c.Chat(ctx)
		if err != nil {
			return err
		}
		for number := range 20 {
			payload := []byte{byte(number)}
			if err := stream.Send(&gen.EchoRequest{Payload: payload}); err != nil {
				return err
			}
			answer, err := stream.Recv()
			if err != nil || !bytes.Equal(answer.Payload, payload) {
				return wrong("message %d: %v", number, err)
			}
		}
		if err := stream.CloseSend(); err != nil {
			return err
		}
		if answer, err := stream.Recv(); err != nil || !answer.End {
			return wrong("no end: %v", err)
		}
		if _, err := stream.Recv(); err != io.EOF {
			return wrong("after the end: %v", err)
		}
		return nil
	}},
	{"server_finishes_first", func(ctx context.Context, c gen.CompatClient) error {
		stream, err := c.Chat(ctx)
		if err != nil {
			return err
		}
		if err := stream.Send(&gen.EchoRequest{Finish: true}); err != nil {
			return err
		}
		if _, err := stream.Recv(); err != nil {
			return err
		}
		if _, err := stream.Recv(); err != io.EOF {
			return wrong("after the end: %v", err)
		}
		return nil
	}},
	{"metadata", func(ctx context.Context, c gen.CompatClient) error {
		raw := string([]byte{0, 1, 254, 255})
		ctx = metadata.AppendToOutgoingContext(ctx, "echo-initial-a", "x y", "echo-initial-b-bin", raw,
			"echo-trailing-a", "1", "echo-trailing-a", "2")
		var head, trailer metadata.MD
		_, err := c.Echo(ctx, &gen.EchoRequest{}, grpc.Header(&head), grpc.Trailer(&trailer))
		if err != nil || fmt.Sprint(head.Get("echo-initial-a"), trailer.Get("echo-trailing-a")) != "[x y] [1 2]" ||
			len(head.Get("echo-initial-b-bin")) != 1 || head.Get("echo-initial-b-bin")[0] != raw {
			return wrong("%v %v %v", head, trailer, err)
		}
		return nil
	}},
	{"status", func(ctx context.Context, c gen.CompatClient) error {
		for code := uint32(1); code <= 16; code++ {
			_, err := c.Fail(ctx, &gen.FailRequest{Code: code, Message: text, Detail: "why"})
			got := status.Convert(err)
			if uint32(got.Code()) != code || got.Message() != text || len(got.Details()) != 1 {
				return wrong("%v, wanted code %d", err, code)
			}
		}
		return nil
	}},
	{"deadline", func(ctx context.Context, c gen.CompatClient) error {
		limited, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		_, err := c.Sleep(limited, &gen.SleepRequest{Key: "go-deadline", Ms: 10000})
		if status.Code(err) != codes.DeadlineExceeded {
			return wrong("%v", err)
		}
		return cancelled(ctx, c, "go-deadline")
	}},
	{"cancel", func(ctx context.Context, c gen.CompatClient) error {
		ended, cancel := context.WithCancel(ctx)
		stream, err := c.SleepStream(ended, &gen.SleepRequest{Key: "go-cancel", Ms: 10000})
		if err == nil {
			_, err = stream.Recv()
		}
		if err == nil {
			_, err = c.Fate(ctx, &gen.FateRequest{Key: "go-cancel", WaitMs: 5000})
		}
		cancel()
		if err != nil {
			return err
		}
		return cancelled(ctx, c, "go-cancel")
	}},
	{"many_at_once", func(ctx context.Context, c gen.CompatClient) error {
		var group sync.WaitGroup
		failed := make(chan error, 200)
		for number := range 200 {
			group.Go(func() {
				payload := []byte(fmt.Sprint(number))
				answer, err := c.Echo(ctx, &gen.EchoRequest{Payload: payload, DelayMs: uint32(number % 7)})
				if err != nil || !bytes.Equal(answer.Payload, payload) {
					failed <- wrong("call %d: %v", number, err)
				}
			})
		}
		group.Wait()
		close(failed)
		return <-failed
	}},
}

func cancelled(ctx context.Context, c gen.CompatClient, key string) error {
	fate, err := c.Fate(ctx, &gen.FateRequest{Key: key, WaitMs: 5000, Cancelled: true})
	if err != nil || !fate.Cancelled {
		return wrong("the handler was not cancelled: %v", err)
	}
	return nil
}

func main() {
	options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	if len(os.Args) > 2 && os.Args[2] == "fixed" {
		options = append(options, grpc.WithInitialWindowSize(1<<20), grpc.WithInitialConnWindowSize(1<<20))
	}
	connection, err := grpc.NewClient(os.Args[1], options...)
	if err != nil {
		panic(err)
	}
	defer connection.Close()
	client := gen.NewCompatClient(connection)
	for _, one := range checks {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		err := one.run(ctx, client)
		cancel()
		detail := ""
		if err != nil {
			detail = err.Error()
		}
		line, _ := json.Marshal(map[string]any{"check": one.name, "ok": err == nil, "detail": detail})
		fmt.Println(string(line))
	}
}
