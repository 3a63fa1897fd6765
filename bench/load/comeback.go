package main

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// ComebackResult is how the devices came back after their server had died.
type ComebackResult struct {
	Devices   int       `json:"devices"`
	Missed    int       `json:"missed"` // messages, of one device
	Attempts  int       `json:"attempts"`
	Times     Quantiles `json:"times"`        // from the first break that a device saw, to caught up
	LastUnixS float64   `json:"last_unix_s"`  // when the last was caught up
	FirstUnix float64   `json:"first_unix_s"` // when the first was
}

const (
	// A device waits evenly between nothing and a bound that doubles, as our SDKs do; these end
	// at a second here.
	firstBackoff   = 500 * time.Millisecond
	longestBackoff = time.Second
	attemptTimeout = 30 * time.Second
	comebackWithin = 120 * time.Second
)

// Returned is how one device came back.
type Returned struct {
	attempts int
	at       int64
	problems []string
}

// runComeback connects all devices and sends -count messages into each channel. At "ready" the
// harness kills the server and starts it again. The devices come back as if they had not saved
// what they got since they connected: with the cursors and the stamp of then. Each has to get the
// same bytes again, once.
func runComeback(o *Options) (any, []string, error) {
	fleet, err := connect(o, len(o.Spec.Devices))
	if err != nil {
		return nil, nil, err
	}
	senders, err := sendSome(o, fleet)
	if err != nil {
		return nil, nil, err
	}
	problems := compare(o, fleet, senders)

	returned := make([]Returned, len(fleet.devices))
	breaks := make(chan int64, len(fleet.devices))
	var running sync.WaitGroup
	for index, device := range fleet.devices {
		device.mortal.Store(true)
		running.Add(1)
		go func() {
			defer running.Done()
			<-device.done
			breaks <- now()
			_ = fleet.conns[index/o.StreamsPerConn].Close()
			returned[index] = comeBack(o, device, fleet.channel[index])
		}()
	}
	mark(o, "ready")
	running.Wait()
	mark(o, "end")

	broken := <-breaks
	for range len(breaks) {
		broken = min(broken, <-breaks)
	}
	result := ComebackResult{Devices: len(fleet.devices), Missed: o.Count}
	times := &Histogram{}
	first, last := returned[0].at, int64(0)
	for _, one := range returned {
		first, last = min(first, one.at), max(last, one.at)
		times.Add(one.at - broken)
		result.Attempts += one.attempts
		problems = append(problems, one.problems...)
	}
	result.Times = times.quantiles()
	result.FirstUnix, result.LastUnixS = unixSeconds(first), unixSeconds(last)
	return result, problems, nil
}

// sendSome lets the first member of each channel send, and waits until all have it.
func sendSome(o *Options, fleet *Fleet) ([]*Sender, error) {
	var senders []*Sender
	for _, channel := range o.Spec.Channels {
		schedule := Schedule{batch: 1, size: o.Size, interval: time.Hour}
		senders = append(senders, newSender(fleet.devices[channel.Members[0]], channel, schedule, 1))
	}
	for range o.Count {
		for _, sender := range senders {
			if err := sender.send(now()); err != nil {
				return nil, err
			}
		}
	}
	fleet.drain(o, senders)
	return senders, nil
}

// comeBack tries until the device is caught up.
func comeBack(o *Options, before *Device, channels []Channel) Returned {
	var returned Returned
	fail := func(format string, args ...any) {
		returned.problems = append(returned.problems,
			fmt.Sprintf("device %d: ", before.index)+fmt.Sprintf(format, args...))
	}
	deadline := now() + int64(comebackWithin)
	bound := firstBackoff
	for {
		time.Sleep(time.Duration(rand.Int64N(int64(bound))))
		bound = min(2*bound, longestBackoff)
		returned.attempts++
		conn, err := dial(o)
		if err != nil {
			fail("%v", err)
			return returned
		}
		device, err := tryAgain(o, conn, before, channels)
		returned.at = now()
		if err == nil {
			checkReturned(before, device, fail)
			// It stays connected until all are back.
			device.mortal.Store(true)
			return returned
		}
		_ = conn.Close()
		if returned.at > deadline {
			fail("not back within %s: %v", comebackWithin, err)
			return returned
		}
	}
}

func tryAgain(o *Options, conn *grpc.ClientConn, before *Device, channels []Channel) (*Device, error) {
	device, err := resumedDevice(o, conn, before.index, channels, len(o.Spec.Devices), before.stamp)
	if err != nil {
		return nil, err
	}
	go device.receive()
	if err := device.waitFor(device.caughtUp, "caught_up", attemptTimeout); err != nil {
		device.close()
		return nil, err
	}
	return device, nil
}

// checkReturned compares what the device got now with what it had got before.
func checkReturned(before, after *Device, fail func(format string, args ...any)) {
	for id, was := range before.positions {
		is := after.positions[id]
		if is.last != was.last || is.sum != was.sum || is.count != was.count {
			fail("%s: caught up to entry %d with %d messages, had %d with %d, or other bytes",
				id, is.last, is.count, was.last, was.count)
		}
	}
	for _, problem := range after.taken() {
		fail("after its return: %s", problem)
	}
}

func unixSeconds(ns int64) float64 {
	return float64(started.UnixNano()+ns) / float64(time.Second)
}
