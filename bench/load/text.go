package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strconv"
	"time"
)

var started = time.Now()

// now is the monotonic clock, in nanoseconds since the process began.
func now() int64 { return int64(time.Since(started)) }

func sleepUntil(ns int64) {
	if wait := ns - now(); wait > 0 {
		time.Sleep(time.Duration(wait))
	}
}

// Words of a run's texts, so that another run's are not taken for this one's.
var run = rand.Uint32()

// Stamp is what a text says about itself.
type Stamp struct {
	Sender    int
	Seq       int
	Scheduled int64
}

// The fixed beginning: run, sender, sequence, scheduled time, CRC-32 of the rest.
const headLength = 8 + 1 + 5 + 1 + 8 + 1 + 16 + 1 + 8 + 1

// text makes a message of `size` bytes, at least headLength.
func text(stamp Stamp, size int) string {
	pad := max(0, size-headLength)
	buffer := make([]byte, 0, headLength+pad)
	buffer = fmt.Appendf(buffer, "%08x %05d %08d %016d ", run, stamp.Sender, stamp.Seq, stamp.Scheduled)
	body := make([]byte, pad)
	for i := range body {
		body[i] = 'a' + byte((stamp.Seq+stamp.Sender+i)%26)
	}
	sum := crc32.Update(crc32.ChecksumIEEE(buffer), crc32.IEEETable, body)
	buffer = fmt.Appendf(buffer, "%08x ", sum)
	return string(append(buffer, body...))
}

// readText reads a text; ours is false if it is of another run.
func readText(data []byte) (stamp Stamp, ours bool, err error) {
	if len(data) < headLength || !bytes.HasPrefix(data, runPrefix) {
		return stamp, false, nil
	}
	sum := crc32.Update(crc32.ChecksumIEEE(data[:headLength-9]), crc32.IEEETable, data[headLength:])
	said, err := strconv.ParseUint(string(data[headLength-9:headLength-1]), 16, 32)
	if err != nil || uint32(said) != sum {
		return stamp, true, fmt.Errorf("wrong bytes: %q", data)
	}
	stamp.Sender = digits(data[9:14])
	stamp.Seq = digits(data[15:23])
	stamp.Scheduled = int64(digits(data[24:40]))
	return stamp, true, nil
}

var runPrefix = fmt.Appendf(nil, "%08x ", run)

func digits(data []byte) int {
	value := 0
	for _, c := range data {
		value = value*10 + int(c-'0')
	}
	return value
}

// isFilled tells whether a text is the one that bench/fill.py gave the entry.
func isFilled(id int64, data []byte) bool {
	return bytes.HasPrefix(data, fmt.Appendf(nil, "message %d ", id))
}

// clientMessageID is a UUID of version 7 whose last 32 bits are the sequence number.
func clientMessageID(sender, seq int) string {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], uint64(time.Now().UnixMilli())<<16)
	raw[6] = 0x70 | byte(sender>>8)&0x0f
	raw[7] = byte(sender)
	binary.BigEndian.PutUint32(raw[8:12], run)
	raw[8] = 0x80 | raw[8]&0x3f
	binary.BigEndian.PutUint32(raw[12:], uint32(seq))
	return fmt.Sprintf("%x-%x-%x-%x-%x", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:])
}

// seqOf gives back the sequence number of a clientMessageID.
func seqOf(id []byte) (int, error) {
	if len(id) != 36 {
		return 0, fmt.Errorf("not one of our client_message_ids: %q", id)
	}
	seq, err := strconv.ParseUint(string(id[28:]), 16, 32)
	return int(seq), err
}
