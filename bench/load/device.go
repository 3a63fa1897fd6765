package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	chatv1 "chinwag/bench/load/gen/chinwag/chat/v1"
)

// Position is what a device has seen of a channel.
type Position struct {
	last  int64  // the newest entry's id
	count int    // entries of this run
	sum   uint32 // over ids and bytes of all entries: equal on devices that saw the same
	seqs  []int  // the next sequence number of each sender
	ids   []int64

	newest atomic.Int64 // `last`, for other goroutines
}

// Measure is the part of a run that counts: what was scheduled within it.
type Measure struct{ begin, end int64 }

func (m Measure) holds(ns int64) bool { return ns >= m.begin && ns < m.end }

// Device is one stream. It checks what arrives: ids dense, each sender's messages once and in
// order, bytes as sent.
type Device struct {
	index     int
	person    Person
	positions map[string]*Position
	stamp     string // of the last caught_up

	// Set before traffic begins.
	measure  Measure
	filled   bool // all entries are those of bench/fill.py
	onEntry  func(d *Device, stamp Stamp, at int64)
	onResult func(d *Device, seq int, id int64, failed error, at int64)
	onMarks  func(d *Device, receipts []*chatv1.Receipt, at int64)
	mortal   atomic.Bool // that its stream breaks is no problem

	deliveries atomic.Int64
	events     atomic.Int64
	frames     atomic.Int64
	delivery   *Histogram
	at         int64 // when the frame that is being read came
	welcome    chan struct{}
	caughtUp   chan struct{}
	done       chan struct{}
	sending    sync.Mutex
	stream     grpc.ClientStream
	cancel     context.CancelFunc

	lock     sync.Mutex
	problems []string
}

// newDevice opens a stream and says hello with the cursors of its channels; it does not wait.
func newDevice(
	o *Options, conn *grpc.ClientConn, index int, channels []Channel, senders int,
) (*Device, error) {
	return resumedDevice(o, conn, index, channels, senders, "")
}

// resumedDevice does so with a resume stamp.
func resumedDevice(
	o *Options, conn *grpc.ClientConn, index int, channels []Channel, senders int, stamp string,
) (*Device, error) {
	ctx, cancel := context.WithCancel(context.Background())
	d := &Device{
		index:     index,
		person:    o.Spec.Devices[index],
		positions: make(map[string]*Position, len(channels)),
		welcome:   make(chan struct{}),
		caughtUp:  make(chan struct{}),
		done:      make(chan struct{}),
		cancel:    cancel,
	}
	hello := &chatv1.Hello{ProtocolVersion: 1, Client: "chinwag-bench", ResumeStamp: stamp}
	if o.Marks > 0 || o.Receipts {
		hello.Subscriptions = &chatv1.Subscriptions{Receipts: true}
	}
	for _, channel := range channels {
		position := &Position{last: channel.Cursor}
		if senders > 0 {
			position.seqs = make([]int, senders)
		}
		d.positions[channel.ID] = position
		hello.Cursors = append(hello.Cursors, &chatv1.Cursor{
			ChannelId: channel.ID, Generation: channel.Generation, Id: channel.Cursor,
		})
	}
	stream, err := open(ctx, conn, d.person)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("device %d: %w", index, err)
	}
	d.stream = stream
	if err := d.send(&chatv1.ConnectRequest{Hello: hello}); err != nil {
		cancel()
		return nil, fmt.Errorf("device %d: %w", index, err)
	}
	return d, nil
}

// send may be called from several goroutines.
func (d *Device) send(frame *chatv1.ConnectRequest) error {
	d.sending.Lock()
	defer d.sending.Unlock()
	return d.stream.SendMsg(frame)
}

// receive reads until the stream ends.
func (d *Device) receive() {
	defer close(d.done)
	var frame Frame
	for {
		if err := d.stream.RecvMsg(&frame); err != nil {
			if d.stream.Context().Err() == nil && !d.mortal.Load() {
				if errors.Is(err, io.EOF) {
					err = errors.New("the server ended it")
				}
				d.problem("the stream broke: %v", err)
			}
			return
		}
		d.at = now()
		d.frames.Add(1)
		if err := frame.read(d); err != nil {
			d.problem("%v", err)
		}
	}
}

// close ends the stream and waits for its reader.
func (d *Device) close() {
	d.cancel()
	<-d.done
}

// waitFor waits for one of the device's signals.
func (d *Device) waitFor(signal <-chan struct{}, what string, timeout time.Duration) error {
	select {
	case <-signal:
		return nil
	case <-d.done:
		return fmt.Errorf("device %d: ended before %s: %v", d.index, what, d.taken())
	case <-time.After(timeout):
		return fmt.Errorf("device %d: no %s within %s", d.index, what, timeout)
	}
}

func (d *Device) problem(format string, args ...any) {
	d.lock.Lock()
	defer d.lock.Unlock()
	if len(d.problems) < 20 {
		d.problems = append(d.problems, fmt.Sprintf("device %d (%s): ", d.index, d.person.UserID)+
			fmt.Sprintf(format, args...))
	}
}

func (d *Device) taken() []string {
	d.lock.Lock()
	defer d.lock.Unlock()
	return d.problems
}

func (d *Device) entry(entry Entry) error {
	d.events.Add(1)
	position := d.positions[string(entry.Channel)]
	if position == nil {
		return nil
	}
	if entry.ID != position.last+1 {
		d.problem("%s: entry %d came after %d", entry.Channel, entry.ID, position.last)
		if entry.ID <= position.last {
			return nil
		}
	}
	position.last = entry.ID
	position.newest.Store(entry.ID)
	var id [8]byte
	binary.BigEndian.PutUint64(id[:], uint64(entry.ID))
	position.sum = crc32.Update(crc32.Update(position.sum, crc32.IEEETable, id[:]), crc32.IEEETable, entry.All)
	if entry.Text == nil {
		return nil
	}
	if d.filled && !isFilled(entry.ID, entry.Text) {
		d.problem("%s: entry %d: wrong bytes: %q", entry.Channel, entry.ID, entry.Text)
	}
	stamp, ours, err := readText(entry.Text)
	if err != nil {
		d.problem("%s: entry %d: %v", entry.Channel, entry.ID, err)
	}
	if !ours {
		return nil
	}
	position.count++
	d.deliveries.Add(1)
	if stamp.Sender < len(position.seqs) {
		if want := position.seqs[stamp.Sender]; stamp.Seq != want {
			d.problem("%s: sender %d: got its message %d, want %d", entry.Channel, stamp.Sender, stamp.Seq, want)
		}
		position.seqs[stamp.Sender] = stamp.Seq + 1
	}
	if stamp.Sender == d.index {
		position.ids = append(position.ids, entry.ID)
	}
	if d.delivery != nil && d.measure.holds(stamp.Scheduled) {
		d.delivery.Add(d.at - stamp.Scheduled)
	}
	if d.onEntry != nil {
		d.onEntry(d, stamp, d.at)
	}
	return nil
}

func (d *Device) result(clientMessageID []byte, id int64, failed []byte) error {
	seq, err := seqOf(clientMessageID)
	if err != nil {
		return err
	}
	var refusal error
	if failed != nil {
		status := &status.Status{}
		if err := proto.Unmarshal(failed, status); err != nil {
			return err
		}
		refusal = fmt.Errorf("send %d refused: %d %s", seq, status.Code, status.Message)
		d.problem("%v", refusal)
	}
	if d.onResult != nil {
		d.onResult(d, seq, id, refusal, d.at)
	}
	return nil
}

func (d *Device) other(response *chatv1.ConnectResponse) error {
	if response.Welcome != nil {
		close(d.welcome)
	}
	if len(response.Receipts) > 0 && d.onMarks != nil {
		d.onMarks(d, response.Receipts, d.at)
	}
	if response.CaughtUp != nil {
		d.stamp = response.CaughtUp.Stamp
		close(d.caughtUp)
	}
	for _, event := range response.Events {
		if reset := event.GetReset_(); reset != nil {
			return fmt.Errorf("%s: reset: %s", reset.ChannelId, reset.Reason)
		}
	}
	for _, failure := range response.Errors {
		return fmt.Errorf("refused: %s: %s", failure.Field, failure.Status.GetMessage())
	}
	if response.Close != nil {
		return fmt.Errorf("closed: %s %s", response.Close.Reason, response.Close.Status.GetMessage())
	}
	return nil
}
