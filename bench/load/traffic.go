package main

import (
	"fmt"
	"slices"
	"sync"
	"time"

	chatv1 "chinwag/bench/load/gen/chinwag/chat/v1"
)

// TrafficResult is what the measured window showed.
type TrafficResult struct {
	Devices    int       `json:"devices"`
	Senders    int       `json:"senders"`
	WindowS    float64   `json:"window_s"`
	Sends      int64     `json:"sends"`      // answered within the window
	Deliveries int64     `json:"deliveries"` // to all devices, the sender's own too
	Frames     int64     `json:"frames"`
	Refused    int64     `json:"refused"`
	Ack        Quantiles `json:"ack"`      // scheduled to answered
	Delivery   Quantiles `json:"delivery"` // scheduled to delivered, other people's devices
	BehindMs   float64   `json:"behind_ms"`
	DrainMs    float64   `json:"drain_ms"` // from the end until the last delivery
	TotalSends int64     `json:"total_sends"`
}

// runTraffic sends into every channel from its first -senders members and checks every delivery.
// One channel with all devices is a group under load; channels of two are 1:1 traffic.
func runTraffic(o *Options) (any, []string, error) {
	fleet, err := connect(o, len(o.Spec.Devices))
	if err != nil {
		return nil, nil, err
	}
	mark(o, "ready")

	begin := now() + int64(100*time.Millisecond) + int64(o.Warmup)
	measure := Measure{begin: begin, end: begin + int64(o.Length)}
	senders, err := makeSenders(o, fleet, measure)
	if err != nil {
		return nil, nil, err
	}
	for _, device := range fleet.devices {
		device.measure = measure
		device.delivery = &Histogram{}
	}
	stopMarks := fleet.markRead(o.Marks)

	var running sync.WaitGroup
	for _, sender := range senders {
		running.Add(1)
		go func() {
			defer running.Done()
			sender.run()
		}()
	}
	sleepUntil(measure.begin)
	mark(o, "begin")
	acked := ackedOf(senders)
	before := fleet.totals()
	sleepUntil(measure.end)
	mark(o, "end")
	after := fleet.totals()
	sends := ackedOf(senders) - acked
	running.Wait()
	stopMarks()

	drained := fleet.drain(o, senders)
	problems := fleet.close()
	problems = append(problems, compare(o, fleet, senders)...)

	result := TrafficResult{
		Devices:    len(fleet.devices),
		Senders:    len(senders),
		WindowS:    time.Duration(after.at - before.at).Seconds(),
		Sends:      sends,
		Deliveries: after.deliveries - before.deliveries,
		Frames:     after.frames - before.frames,
		DrainMs:    millis(drained - measure.end),
	}
	ack, delivery := &Histogram{}, &Histogram{}
	for _, sender := range senders {
		ack.Merge(&sender.ack)
		result.Refused += sender.refused.Load()
		result.TotalSends += sender.sent.Load()
		result.BehindMs = max(result.BehindMs, millis(sender.behind))
	}
	for _, device := range fleet.devices {
		delivery.Merge(device.delivery)
	}
	result.Ack, result.Delivery = ack.quantiles(), delivery.quantiles()
	return result, problems, nil
}

func makeSenders(o *Options, fleet *Fleet, measure Measure) ([]*Sender, error) {
	type place struct {
		channel Channel
		member  int
	}
	var places []place
	taken := map[int]bool{}
	for _, channel := range o.Spec.Channels {
		count := len(channel.Members)
		if o.Senders > 0 {
			count = min(count, o.Senders)
		}
		for _, member := range channel.Members[:count] {
			if taken[member] {
				return nil, fmt.Errorf("device %d would send into two channels", member)
			}
			taken[member] = true
			places = append(places, place{channel, member})
		}
	}
	if len(places) == 0 {
		return nil, fmt.Errorf("nobody sends")
	}
	senders := make([]*Sender, len(places))
	for i, p := range places {
		schedule := Schedule{
			first: measure.begin - int64(o.Warmup),
			end:   measure.end,
			batch: o.Batch,
			size:  o.Size,
		}
		if o.Rate > 0 {
			schedule.interval = time.Duration(float64(time.Second) * float64(o.Batch*len(places)) / o.Rate)
			// Spread over the interval, so that they do not send at the same moment.
			schedule.first += int64(schedule.interval) * int64(i) / int64(len(places))
		}
		senders[i] = newSender(fleet.devices[p.member], p.channel, schedule, o.Window)
	}
	return senders, nil
}

func ackedOf(senders []*Sender) (total int64) {
	for _, sender := range senders {
		total += sender.acked.Load()
	}
	return total
}

// drain waits until every device has everything that was sent, and gives when.
func (f *Fleet) drain(o *Options, senders []*Sender) int64 {
	var wanted int64
	members := map[string]int64{}
	for _, channel := range o.Spec.Channels {
		members[channel.ID] = int64(len(channel.Members))
	}
	deadline := now() + int64(o.Drain)
	for {
		wanted = 0
		var open int64
		for _, sender := range senders {
			wanted += (sender.sent.Load() - sender.refused.Load()) * members[sender.channel.ID]
			open += sender.sent.Load() - sender.refused.Load() - sender.acked.Load()
		}
		if f.totals().deliveries >= wanted && open == 0 || now() >= deadline {
			return now()
		}
		time.Sleep(time.Millisecond)
	}
}

// compare finds what single devices cannot see: that all have all, and the same.
func compare(o *Options, fleet *Fleet, senders []*Sender) (problems []string) {
	wanted := map[string]int{}
	for _, sender := range senders {
		wanted[sender.channel.ID] += int(sender.acked.Load())
		if missing := sender.sent.Load() - sender.acked.Load() - sender.refused.Load(); missing != 0 {
			problems = append(problems, fmt.Sprintf("device %d: %d sends were never answered", sender.device.index, missing))
		}
		own := sender.device.positions[sender.channel.ID].ids
		if !slices.Equal(own, sender.ids) && sender.refused.Load() == 0 {
			problems = append(problems, fmt.Sprintf("device %d: the answers' ids are not those of the deliveries", sender.device.index))
		}
	}
	for _, channel := range o.Spec.Channels {
		var first *Position
		for _, member := range channel.Members {
			position := fleet.devices[member].positions[channel.ID]
			if position.count != wanted[channel.ID] {
				problems = append(problems, fmt.Sprintf("device %d: %s: %d deliveries, want %d", member, channel.ID, position.count, wanted[channel.ID]))
			}
			if first == nil {
				first = position
			} else if position.last != first.last || position.sum != first.sum {
				problems = append(problems, fmt.Sprintf("device %d: %s: other entries than device %d has", member, channel.ID, channel.Members[0]))
			}
		}
	}
	return problems
}

// markRead lets every device mark what it has read, each at its own moment of the interval.
func (f *Fleet) markRead(interval time.Duration) (stop func()) {
	if interval == 0 {
		return func() {}
	}
	stopped := make(chan struct{})
	var running sync.WaitGroup
	for index, device := range f.devices {
		running.Add(1)
		go func() {
			defer running.Done()
			time.Sleep(interval * time.Duration(index) / time.Duration(len(f.devices)))
			ticks := time.NewTicker(interval)
			defer ticks.Stop()
			for {
				select {
				case <-stopped:
					return
				case <-device.done:
					return
				case <-ticks.C:
				}
				frame := &chatv1.ConnectRequest{}
				for _, channel := range f.channel[index] {
					last := device.positions[channel.ID].newest.Load()
					frame.Marks = append(frame.Marks, &chatv1.Mark{ChannelId: channel.ID, ReadId: last})
				}
				if err := device.send(frame); err != nil {
					return
				}
			}
		}()
	}
	return func() { close(stopped); running.Wait() }
}
