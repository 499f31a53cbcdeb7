package policies

import "slices"

// EventType is a kind of touchpoint with the place it has in a journey.
type EventType struct {
	Name     string
	Channel  string // default channel; an event may name another of the closed list
	Stage    string
	Purposes Mask // every purpose that names the type
}

// OtherChannel is the channel of what comes by none of the list.
const OtherChannel = "other"

// channels is the closed list, on- and offline (journeys.md).
var channels = [...]string{
	"web", "app", "email", "sms", "social", "paid_search", "organic_search", "affiliate", "store", "call_centre", "delivery",
	"chat", "direct", OtherChannel,
}

// Channel returns name if it is in the closed list, else "other".
func Channel(name string) string {
	if slices.Contains(channels[:], name) {
		return name
	}
	return OtherChannel
}

// preset is a versioned list of stages with the stage of the event types that every shop has. A preset never changes: a new
// one gets a new name, because the name is part of the policy's hash.
type preset struct {
	name   string
	stages []string
	of     map[string]string // event type → stage
}

// defaultPreset is the preset of a policy that names none.
const defaultPreset = "six-1"

// presets returns the stages that practice knows: four, six and the five of omnichannel trade.
func presets() []preset {
	return []preset{
		{"four-1", []string{"discovery", "research", "purchase", "after"}, map[string]string{
			"page_view": "discovery", "search": "research", "product_view": "research", "cart_add": "purchase",
			"checkout_start": "purchase", "purchase": "purchase", "store_purchase": "purchase", "return": "after",
		}},
		{"five-1", []string{"discovery", "research", "purchase", "order_tracking", "after_sales"}, map[string]string{
			"page_view": "discovery", "search": "research", "product_view": "research", "cart_add": "purchase",
			"checkout_start": "purchase", "purchase": "purchase", "store_purchase": "purchase", "return": "after_sales",
		}},
		{defaultPreset, []string{"awareness", "interest", "consideration", "intent", "purchase", "loyalty"}, map[string]string{
			"page_view": "awareness", "search": "interest", "product_view": "consideration", "cart_add": "intent",
			"checkout_start": "intent", "purchase": "purchase", "store_purchase": "purchase", "return": "loyalty",
		}},
	}
}
