package main

import (
	"fmt"
	"time"
)

// IdleResult is how long the devices took to connect.
type IdleResult struct {
	Devices  int     `json:"devices"`
	ConnectS float64 `json:"connect_s"` // the second time
}

// How long the server has to forget the devices that left.
const settle = 3 * time.Second

// runIdle connects all devices and keeps them until the harness has looked ("ready"). Then all
// leave and come once more: now that the server knows their tokens and is warm, what it takes to
// open a stream counts. One begins when another, of connectAtOnce, is caught up.
func runIdle(o *Options) (any, []string, error) {
	fleet, err := connect(o, 0)
	if err != nil {
		return nil, nil, err
	}
	mark(o, "ready")
	problems := fleet.close()
	time.Sleep(settle)

	mark(o, "begin")
	start := now()
	fleet, err = connect(o, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("the second time: %w", err)
	}
	took := time.Duration(now() - start)
	mark(o, "end")
	problems = append(problems, fleet.close()...)
	return IdleResult{Devices: len(fleet.devices), ConnectS: took.Seconds()}, problems, nil
}
