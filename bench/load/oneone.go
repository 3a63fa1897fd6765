package main

import (
	"fmt"
	"time"
)

// OneOneResult is what a lone pair on an idle server sees.
type OneOneResult struct {
	Count    int       `json:"count"`
	Ack      Quantiles `json:"ack"`
	Delivery Quantiles `json:"delivery"`
}

// runOneOne sends one message at a time from one person to the other, with pauses.
func runOneOne(o *Options) (any, []string, error) {
	if len(o.Spec.Channels) == 0 || len(o.Spec.Channels[0].Members) != 2 {
		return nil, nil, fmt.Errorf("want a channel of two")
	}
	fleet, err := connect(o, len(o.Spec.Devices))
	if err != nil {
		return nil, nil, err
	}
	mark(o, "ready")
	channel := o.Spec.Channels[0]
	schedule := Schedule{interval: time.Hour, batch: 1, size: o.Size}
	var senders []*Sender
	delivery := &Histogram{}
	arrived := make(chan int64, 1)
	answered := make(chan int64, 1)
	for _, member := range channel.Members {
		sender := newSender(fleet.devices[member], channel, schedule, 1)
		senders = append(senders, sender)
	}
	for _, device := range fleet.devices {
		device.measure = Measure{begin: 0, end: 1 << 62}
		device.onEntry = func(d *Device, stamp Stamp, at int64) {
			if stamp.Sender != d.index {
				arrived <- at
			}
		}
		result := device.onResult
		device.onResult = func(d *Device, seq int, id int64, failed error, at int64) {
			result(d, seq, id, failed, at)
			answered <- at
		}
	}

	const warmup = 20
	var problems []string
	mark(o, "begin")
	for i := range warmup + o.Count {
		sender := senders[0]
		if o.Both {
			sender = senders[i%2]
		}
		if i == warmup {
			sender.ack, delivery = Histogram{}, &Histogram{}
			senders[1].ack = Histogram{}
		}
		at := now()
		if err := sender.send(at); err != nil {
			return nil, nil, err
		}
		var got int64
		for _, signal := range []chan int64{arrived, answered} {
			select {
			case when := <-signal:
				if signal == arrived {
					got = when
				}
			case <-time.After(10 * time.Second):
				return nil, append(problems, fmt.Sprintf("message %d was lost", i)), nil
			}
		}
		delivery.Add(got - at)
		time.Sleep(o.Gap)
	}
	mark(o, "end")
	problems = append(problems, fleet.close()...)
	problems = append(problems, compare(o, fleet, senders)...)
	ack := &Histogram{}
	for _, sender := range senders {
		ack.Merge(&sender.ack)
	}
	return OneOneResult{Count: o.Count, Ack: ack.quantiles(), Delivery: delivery.quantiles()}, problems, nil
}
