package main

import (
	"sync"
	"sync/atomic"
	"time"

	chatv1 "chinwag/bench/load/gen/chinwag/chat/v1"
)

// Sender sends on a device into one channel: at scheduled times, or saturated with a window.
type Sender struct {
	device   *Device
	channel  Channel
	schedule Schedule

	lock      sync.Mutex
	scheduled []int64 // of each sequence number
	ids       []int64 // the answered message id, 0: none yet

	sent, acked, refused atomic.Int64
	room                 chan struct{} // saturated: one for each answer
	ack                  Histogram     // only the device's reader writes it
	behind               int64         // the longest that a send came after its time
}

// Schedule says when to send.
type Schedule struct {
	first, end int64         // from and until when
	interval   time.Duration // between frames; 0: saturated
	batch      int           // sends a frame
	size       int           // bytes of a text
}

func newSender(device *Device, channel Channel, schedule Schedule, window int) *Sender {
	s := &Sender{device: device, channel: channel, schedule: schedule, room: make(chan struct{}, window)}
	for range window {
		s.room <- struct{}{}
	}
	device.onResult = s.result
	return s
}

// run sends until the end of the schedule.
func (s *Sender) run() {
	ended := time.After(time.Duration(s.schedule.end - now()))
	for k := int64(0); ; k++ {
		at := s.schedule.first + k*int64(s.schedule.interval)
		if s.schedule.interval == 0 {
			for range s.schedule.batch {
				select {
				case <-s.room:
				case <-s.device.done:
					return
				case <-ended:
					return
				}
			}
			at = now()
		}
		if at >= s.schedule.end {
			return
		}
		sleepUntil(at)
		if err := s.send(at); err != nil {
			s.device.problem("sending: %v", err)
			return
		}
		if s.schedule.interval > 0 {
			s.behind = max(s.behind, now()-at)
		}
	}
}

// send sends one frame whose texts say that they were due `at`.
func (s *Sender) send(at int64) error {
	frame := &chatv1.ConnectRequest{Sends: make([]*chatv1.SendMessageRequest, s.schedule.batch)}
	s.lock.Lock()
	first := len(s.scheduled)
	for i := range frame.Sends {
		seq := first + i
		s.scheduled = append(s.scheduled, at)
		s.ids = append(s.ids, 0)
		frame.Sends[i] = &chatv1.SendMessageRequest{
			ChannelId:       s.channel.ID,
			ClientMessageId: clientMessageID(s.device.index, seq),
			Content: &chatv1.MessageContent{
				Text: text(Stamp{Sender: s.device.index, Seq: seq, Scheduled: at}, s.schedule.size),
			},
		}
	}
	s.lock.Unlock()
	s.sent.Add(int64(len(frame.Sends)))
	return s.device.send(frame)
}

func (s *Sender) result(d *Device, seq int, id int64, failed error, at int64) {
	s.lock.Lock()
	known := seq < len(s.ids) && s.ids[seq] == 0
	var due int64
	if known {
		due = s.scheduled[seq]
		s.ids[seq] = id
	}
	s.lock.Unlock()
	switch {
	case !known:
		d.problem("send %d was answered twice or never made", seq)
	case failed != nil:
		s.refused.Add(1)
	default:
		if d.measure.holds(due) {
			s.ack.Add(at - due)
		}
		s.acked.Add(1)
	}
	if s.schedule.interval == 0 {
		s.room <- struct{}{}
	}
}
