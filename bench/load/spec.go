package main

import "fmt"

// Spec says whom to connect and where they talk.
type Spec struct {
	Address  string    `json:"address"`
	Devices  []Person  `json:"devices"`
	Channels []Channel `json:"channels"`
}

// Person is one device of a user. Address is where it connects, if not at the spec's.
type Person struct {
	UserID  string `json:"user_id"`
	Token   string `json:"token"`
	Address string `json:"address,omitempty"`
}

// Channel is a channel and its members as indices into Spec.Devices. Cursor is the entry up to
// which they have everything; devices of "resume" lack what comes after it, up to Head.
type Channel struct {
	ID         string `json:"id"`
	Generation int64  `json:"generation"`
	Cursor     int64  `json:"cursor"`
	Head       int64  `json:"head"`
	Members    []int  `json:"members"`
}

// addressOf is where a device connects.
func (s *Spec) addressOf(device int) string {
	if address := s.Devices[device].Address; address != "" {
		return address
	}
	return s.Address
}

func (s *Spec) check() error {
	if s.Address == "" || len(s.Devices) == 0 {
		return fmt.Errorf("want an address and devices")
	}
	for _, channel := range s.Channels {
		for _, member := range channel.Members {
			if member < 0 || member >= len(s.Devices) {
				return fmt.Errorf("channel %s: there is no device %d", channel.ID, member)
			}
		}
	}
	return nil
}
