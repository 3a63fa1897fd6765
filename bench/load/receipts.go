package main

import (
	"fmt"
	"sync"
	"time"

	chatv1 "chinwag/bench/load/gen/chinwag/chat/v1"
)

// ReceiptsResult is what it takes to tell all members that all have read a message.
type ReceiptsResult struct {
	Members       int       `json:"members"`
	Rounds        int       `json:"rounds"`
	FramesAMember float64   `json:"frames_a_member"` // with receipts, of one round
	MostFrames    int       `json:"most_frames"`     // of one member in one round
	Told          Quantiles `json:"told"`            // first mark to the last receipt, of a member
}

const (
	// The server gathers receipts for so long (RECEIPT_FLUSH_S in chat/hub.py).
	flushEvery = 50 * time.Millisecond
	// So long after the last receipt, one that comes too often would have come.
	quiet = 3 * flushEvery
)

// Reader is what one device was told of the others' marks.
type Reader struct {
	lock   sync.Mutex
	newest map[string]int64 // read_id, by user
	frames int
	last   int64 // when the last frame with receipts came
}

func (r *Reader) receive(_ *Device, receipts []*chatv1.Receipt, at int64) {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.frames++
	r.last = at
	for _, receipt := range receipts {
		r.newest[receipt.UserId] = max(r.newest[receipt.UserId], receipt.ReadId)
	}
}

// told tells whether all others are known to have read up to an entry. Who sent it has read it: that
// the entry itself says.
func (r *Reader) told(people []Person, self, sender int, id int64) bool {
	r.lock.Lock()
	defer r.lock.Unlock()
	for index, person := range people {
		if index != self && index != sender && r.newest[person.UserID] < id {
			return false
		}
	}
	return true
}

// runReceipts lets all members of a channel mark a message read at the same moment, -count times,
// and checks that each is told so of each other one.
func runReceipts(o *Options) (any, []string, error) {
	if len(o.Spec.Channels) != 1 || len(o.Spec.Channels[0].Members) != len(o.Spec.Devices) {
		return nil, nil, fmt.Errorf("want one channel, with all devices")
	}
	o.Receipts = true
	fleet, err := connect(o, len(o.Spec.Devices))
	if err != nil {
		return nil, nil, err
	}
	channel := o.Spec.Channels[0]
	readers := make([]*Reader, len(fleet.devices))
	for index, device := range fleet.devices {
		readers[index] = &Reader{newest: map[string]int64{}}
		device.onMarks = readers[index].receive
	}
	sender := newSender(fleet.devices[channel.Members[0]], channel, Schedule{batch: 1, size: o.Size, interval: time.Hour}, 1)
	mark(o, "ready")

	result := ReceiptsResult{Members: len(readers), Rounds: o.Count}
	told := &Histogram{}
	var problems []string
	for round := range o.Count {
		if err := sender.send(now()); err != nil {
			return nil, nil, err
		}
		fleet.drain(o, []*Sender{sender})
		head := fleet.devices[0].positions[channel.ID].newest.Load()
		time.Sleep(quiet)
		frames := framesOf(readers)

		mark(o, "begin")
		start := now()
		for _, device := range fleet.devices {
			frame := &chatv1.ConnectRequest{Marks: []*chatv1.Mark{{ChannelId: channel.ID, ReadId: head}}}
			if err := device.send(frame); err != nil {
				return nil, nil, err
			}
		}
		missing := waitTold(o, readers, channel.Members[0], head)
		time.Sleep(quiet)
		mark(o, "end")

		if missing > 0 {
			problems = append(problems, fmt.Sprintf("round %d: %d members were not told of all marks", round, missing))
		}
		for index, reader := range readers {
			reader.lock.Lock()
			got := reader.frames - frames[index]
			took := time.Duration(reader.last - start)
			reader.lock.Unlock()
			told.Add(int64(took))
			result.FramesAMember += float64(got) / float64(len(readers)*o.Count)
			result.MostFrames = max(result.MostFrames, got)
			if most := 2 + int(took/flushEvery); got > most {
				problems = append(problems, fmt.Sprintf(
					"round %d: device %d got %d frames with receipts in %s, want at most %d", round, index, got, took, most))
			}
		}
	}
	problems = append(problems, fleet.close()...)
	problems = append(problems, compare(o, fleet, []*Sender{sender})...)
	result.Told = told.quantiles()
	return result, problems, nil
}

func framesOf(readers []*Reader) []int {
	frames := make([]int, len(readers))
	for index, reader := range readers {
		reader.lock.Lock()
		frames[index] = reader.frames
		reader.lock.Unlock()
	}
	return frames
}

// waitTold waits until all were told, and gives how many were not in time.
func waitTold(o *Options, readers []*Reader, sender int, id int64) int {
	deadline := now() + int64(10*time.Second)
	for {
		missing := 0
		for index, reader := range readers {
			if !reader.told(o.Spec.Devices, index, sender, id) {
				missing++
			}
		}
		if missing == 0 || now() > deadline {
			return missing
		}
		time.Sleep(5 * time.Millisecond)
	}
}
