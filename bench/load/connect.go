package main

import (
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
)

const (
	connectTimeout = 60 * time.Second
	connectAtOnce  = 32
)

// Fleet are the connected devices of a run, in the order of the spec.
type Fleet struct {
	devices []*Device
	conns   []*grpc.ClientConn
	channel map[int][]Channel // of each device
}

// connect opens a stream for each device, -streams of them a connection, and waits until all
// are caught up. `senders` is the number of devices whose sequence numbers are checked.
func connect(o *Options, senders int) (*Fleet, error) {
	fleet := &Fleet{
		devices: make([]*Device, len(o.Spec.Devices)),
		channel: make(map[int][]Channel),
	}
	for _, channel := range o.Spec.Channels {
		for _, member := range channel.Members {
			fleet.channel[member] = append(fleet.channel[member], channel)
		}
	}
	for first := 0; first < len(fleet.devices); first += o.StreamsPerConn {
		conn, err := dialTo(o, o.Spec.addressOf(first))
		if err != nil {
			return nil, err
		}
		fleet.conns = append(fleet.conns, conn)
	}
	var group sync.WaitGroup
	slots := make(chan struct{}, connectAtOnce)
	failures := make(chan error, len(fleet.devices))
	for index := range fleet.devices {
		group.Add(1)
		slots <- struct{}{}
		go func() {
			defer func() { <-slots; group.Done() }()
			conn := fleet.conns[index/o.StreamsPerConn]
			device, err := newDevice(o, conn, index, fleet.channel[index], senders)
			if err != nil {
				failures <- err
				return
			}
			fleet.devices[index] = device
			go device.receive()
			if err := device.waitFor(device.caughtUp, "caught_up", connectTimeout); err != nil {
				failures <- err
			}
		}()
	}
	group.Wait()
	select {
	case err := <-failures:
		return nil, fmt.Errorf("%w (and %d more)", err, len(failures))
	default:
		return fleet, nil
	}
}

// close ends all streams; afterwards nothing changes the devices any more.
func (f *Fleet) close() []string {
	var problems []string
	for _, device := range f.devices {
		device.close()
		problems = append(problems, device.problems...)
	}
	for _, conn := range f.conns {
		_ = conn.Close()
	}
	return problems
}

// Totals are counters over all devices at one moment.
type Totals struct{ at, deliveries, events, frames int64 }

func (f *Fleet) totals() Totals {
	totals := Totals{at: now()}
	for _, device := range f.devices {
		totals.deliveries += device.deliveries.Load()
		totals.events += device.events.Load()
		totals.frames += device.frames.Load()
	}
	return totals
}
