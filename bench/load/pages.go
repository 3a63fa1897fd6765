package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	chatv1 "chinwag/bench/load/gen/chinwag/chat/v1"
)

// PagesResult is how long a page takes, by channel.
type PagesResult struct {
	Head  int64     `json:"head"`
	Times Quantiles `json:"times"`
}

const pageSize = 50

// runPages reads pages around random entries, of all channels in turn, one call at a time.
func runPages(o *Options) (any, []string, error) {
	conn, err := dial(o)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	client := chatv1.NewChatServiceClient(conn)
	times := make([]Histogram, len(o.Spec.Channels))
	var problems []string

	const warmup = 100
	mark(o, "ready")
	mark(o, "begin")
	for i := range warmup + o.Count {
		for c, channel := range o.Spec.Channels {
			took, err := onePage(client, o.Spec.Devices[channel.Members[0]], channel, i)
			if err != nil {
				problems = append(problems, fmt.Sprintf("%s: %v", channel.ID, err))
				if len(problems) > 10 {
					return nil, problems, nil
				}
			}
			if i >= warmup {
				times[c].Add(took)
			}
		}
	}
	mark(o, "end")
	results := make([]PagesResult, len(times))
	for c := range times {
		results[c] = PagesResult{Head: o.Spec.Channels[c].Head, Times: times[c].quantiles()}
	}
	return results, problems, nil
}

// onePage reads the page before, after or around a random entry that has a whole page on each
// side, and checks that the page is whole and dense.
func onePage(client chatv1.ChatServiceClient, person Person, channel Channel, i int) (int64, error) {
	// Entry 1 made the channel; everything after it is a message.
	anchor := 2 + pageSize + rand.Int64N(channel.Head-2*pageSize-2)
	request := &chatv1.ListMessagesRequest{ChannelId: channel.ID, PageSize: pageSize}
	first := anchor
	switch i % 3 {
	case 0:
		request.Anchor = &chatv1.ListMessagesRequest_BeforeId{BeforeId: anchor}
		first = anchor - pageSize
	case 1:
		request.Anchor = &chatv1.ListMessagesRequest_AfterId{AfterId: anchor}
		first = anchor + 1
	case 2:
		request.Anchor = &chatv1.ListMessagesRequest_AroundId{AroundId: anchor}
	}
	ctx, cancel := context.WithTimeout(as(context.Background(), person), 10*time.Second)
	defer cancel()
	start := now()
	response, err := client.ListMessages(ctx, request)
	took := now() - start
	if err != nil {
		return took, err
	}
	if len(response.Messages) != pageSize {
		return took, fmt.Errorf("%v gave %d messages, want %d", request, len(response.Messages), pageSize)
	}
	if i%3 == 2 {
		first = response.Messages[0].Id
		if anchor < first || anchor >= first+pageSize {
			return took, fmt.Errorf("%v gave %d to %d", request, first, first+pageSize-1)
		}
	}
	for k, message := range response.Messages {
		if message.Id != first+int64(k) || !isFilled(message.Id, []byte(message.Content.GetText())) {
			return took, fmt.Errorf("%v: message %d of the page is %d, want %d", request, k, message.Id, first+int64(k))
		}
	}
	return took, nil
}
