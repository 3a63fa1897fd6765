package main

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	chatv1 "chinwag/bench/load/gen/chinwag/chat/v1"
)

// A window that is set makes grpc-go leave the bandwidth alone: otherwise it sends a PING for
// every burst after a pause, which doubles what a delivery costs (docs/performance.md).
const windowBytes = 1 << 20

// dial makes a client of the spec's address with a TCP connection of its own.
func dial(o *Options) (*grpc.ClientConn, error) {
	return dialTo(o, o.Spec.Address)
}

func dialTo(o *Options, address string) (*grpc.ClientConn, error) {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(16<<20)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Minute}),
		grpc.WithReadBufferSize(16 << 10),
		grpc.WithWriteBufferSize(16 << 10),
		grpc.WithDisableServiceConfig(),
		grpc.WithUserAgent("chinwag-bench"),
	}
	if !o.Probe {
		options = append(options,
			grpc.WithInitialWindowSize(windowBytes), grpc.WithInitialConnWindowSize(windowBytes))
	}
	return grpc.NewClient("passthrough:///"+address, options...)
}

// as is the context of a call with a person's token.
func as(ctx context.Context, person Person) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+person.Token)
}

// open begins a device's stream, the raw side of ChatService.Connect.
func open(ctx context.Context, conn *grpc.ClientConn, person Person) (grpc.ClientStream, error) {
	return conn.NewStream(as(ctx, person),
		&grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, chatv1.ChatService_Connect_FullMethodName)
}
