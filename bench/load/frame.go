package main

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	chatv1 "chinwag/bench/load/gen/chinwag/chat/v1"
)

// Frame is a received ConnectResponse as bytes. Entries and results are read from the wire
// without message objects: 100 devices that each build them would cost more than the server.
type Frame struct{ data []byte }

// codec is the protobuf codec that also receives into a Frame, whose buffer it uses again.
type codec struct{}

var _ encoding.CodecV2 = codec{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	data, err := proto.Marshal(v.(proto.Message))
	if err != nil {
		return nil, err
	}
	return mem.BufferSlice{mem.SliceBuffer(data)}, nil
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	if frame, ok := v.(*Frame); ok {
		length := data.Len()
		if cap(frame.data) < length {
			frame.data = make([]byte, length, 2*length)
		}
		frame.data = frame.data[:length]
		data.CopyTo(frame.data)
		return nil
	}
	return proto.Unmarshal(data.Materialize(), v.(proto.Message))
}

// fields calls `visit` with each field's number and, of a length-delimited one, its bytes, else
// its value.
func fields(data []byte, visit func(number protowire.Number, raw []byte, value uint64) error) error {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		var raw []byte
		var value uint64
		switch kind {
		case protowire.BytesType:
			raw, n = protowire.ConsumeBytes(data)
		case protowire.VarintType:
			value, n = protowire.ConsumeVarint(data)
		default:
			n = protowire.ConsumeFieldValue(number, kind, data)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		if err := visit(number, raw, value); err != nil {
			return err
		}
	}
	return nil
}

// Entry is what is checked of an entry; the slices point into the frame.
type Entry struct {
	Channel []byte
	ID      int64
	Text    []byte
	All     []byte
}

// Handler gets the parts of a frame.
type Handler interface {
	entry(entry Entry) error
	result(clientMessageID []byte, messageID int64, failed []byte) error
	other(response *chatv1.ConnectResponse) error
}

// read takes a frame apart. Field numbers: chinwag/chat/v1/connect.proto and entry.proto.
func (f *Frame) read(h Handler) error {
	var rest []byte
	err := fields(f.data, func(number protowire.Number, raw []byte, _ uint64) error {
		switch number {
		case 1: // events
			entry, found, err := readEvent(raw)
			if err != nil {
				return err
			}
			if found {
				return h.entry(entry)
			}
		case 2: // results
			return readResult(raw, h)
		}
		rest = protowire.AppendTag(rest, number, protowire.BytesType)
		rest = protowire.AppendBytes(rest, raw)
		return nil
	})
	if err != nil || rest == nil {
		return err
	}
	response := &chatv1.ConnectResponse{}
	if err := proto.Unmarshal(rest, response); err != nil {
		return err
	}
	return h.other(response)
}

func readEvent(event []byte) (entry Entry, found bool, err error) {
	err = fields(event, func(number protowire.Number, raw []byte, _ uint64) error {
		if number != 1 {
			return nil
		}
		found = true
		entry.All = raw
		return fields(raw, func(number protowire.Number, raw []byte, value uint64) error {
			switch number {
			case 1:
				entry.Channel = raw
			case 2:
				entry.ID = int64(value)
			case 16: // message_sent
				return fields(raw, func(number protowire.Number, raw []byte, _ uint64) error {
					if number != 2 { // content
						return nil
					}
					return fields(raw, func(number protowire.Number, raw []byte, _ uint64) error {
						if number == 1 {
							entry.Text = raw
						}
						return nil
					})
				})
			}
			return nil
		})
	})
	return entry, found, err
}

func readResult(result []byte, h Handler) error {
	var clientMessageID, failed []byte
	var messageID int64
	err := fields(result, func(number protowire.Number, raw []byte, value uint64) error {
		switch number {
		case 1:
			clientMessageID = raw
		case 3:
			messageID = int64(value)
		case 5:
			failed = raw
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("a result: %w", err)
	}
	return h.result(clientMessageID, messageID, failed)
}
