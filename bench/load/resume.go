package main

import (
	"fmt"
	"sync"
	"time"
)

// ResumeResult is how long a device takes from its hello until it is caught up.
type ResumeResult struct {
	Devices int       `json:"devices"`
	Missed  int64     `json:"missed"` // entries, of one device
	Times   Quantiles `json:"times"`
	TotalS  float64   `json:"total_s"` // all devices at once: until the last is caught up
}

// runResume lets all devices come back at once, -count times, and checks that each gets all that
// it missed. Their connections stand already: what counts goes from hello to caught_up.
func runResume(o *Options) (any, []string, error) {
	if len(o.Spec.Channels) != 1 {
		return nil, nil, fmt.Errorf("want one channel")
	}
	channel := o.Spec.Channels[0]
	result := ResumeResult{Devices: len(channel.Members), Missed: channel.Head - channel.Cursor}
	times := &Histogram{}
	var lock sync.Mutex
	var problems []string
	fail := func(format string, args ...any) {
		lock.Lock()
		defer lock.Unlock()
		problems = append(problems, fmt.Sprintf(format, args...))
	}

	resume := func(index int, release <-chan struct{}, opened, finished *sync.WaitGroup) {
		defer finished.Done()
		conn, err := dial(o)
		if err != nil {
			opened.Done()
			fail("%v", err)
			return
		}
		defer conn.Close()
		conn.Connect()
		for state := conn.GetState(); state.String() != "READY"; state = conn.GetState() {
			time.Sleep(time.Millisecond)
			if state.String() == "TRANSIENT_FAILURE" {
				break
			}
		}
		opened.Done()
		<-release
		start := now()
		device, err := newDevice(o, conn, index, []Channel{channel}, 0)
		if err != nil {
			fail("%v", err)
			return
		}
		device.filled = true
		go device.receive()
		if err := device.waitFor(device.caughtUp, "caught_up", connectTimeout); err != nil {
			fail("%v", err)
		}
		took := now() - start
		device.close()
		lock.Lock()
		times.Add(took)
		lock.Unlock()
		position := device.positions[channel.ID]
		if position.last != channel.Head || device.events.Load() != result.Missed {
			fail("device %d: got %d entries up to %d, want %d up to %d",
				index, device.events.Load(), position.last, result.Missed, channel.Head)
		}
		for _, problem := range device.problems {
			fail("%s", problem)
		}
	}

	mark(o, "ready")
	for range o.Count {
		var opened, finished sync.WaitGroup
		release := make(chan struct{})
		for _, index := range channel.Members {
			opened.Add(1)
			finished.Add(1)
			go resume(index, release, &opened, &finished)
		}
		opened.Wait()
		mark(o, "begin")
		start := now()
		close(release)
		finished.Wait()
		result.TotalS += time.Duration(now() - start).Seconds()
		mark(o, "end")
	}
	result.Times = times.quantiles()
	return result, problems, nil
}
