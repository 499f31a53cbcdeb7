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

// Channels is the closed list of channels.
func Channels() []string { return slices.Clone(channels[:]) }

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
			"ad_click": "discovery", "social_click": "discovery", "email_open": "discovery", "email_click": "discovery",
			"sms_click": "discovery", "app_open": "discovery", "login": "research", "store_visit": "research", "chat": "research",
			"cart_remove": "purchase", "coupon_use": "purchase", "order_tracking": "after", "delivery_update": "after",
			"call": "after", "survey": "after",
		}},
		{"five-1", []string{"discovery", "research", "purchase", "order_tracking", "after_sales"}, map[string]string{
			"page_view": "discovery", "search": "research", "product_view": "research", "cart_add": "purchase",
			"checkout_start": "purchase", "purchase": "purchase", "store_purchase": "purchase", "return": "after_sales",
			"ad_click": "discovery", "social_click": "discovery", "email_open": "discovery", "email_click": "discovery",
			"sms_click": "discovery", "app_open": "discovery", "login": "research", "store_visit": "research", "chat": "research",
			"cart_remove": "purchase", "coupon_use": "purchase", "order_tracking": "order_tracking", "delivery_update": "order_tracking",
			"call": "after_sales", "survey": "after_sales",
		}},
		{defaultPreset, []string{"awareness", "interest", "consideration", "intent", "purchase", "loyalty"}, map[string]string{
			"page_view": "awareness", "search": "interest", "product_view": "consideration", "cart_add": "intent",
			"checkout_start": "intent", "purchase": "purchase", "store_purchase": "purchase", "return": "loyalty",
			"ad_click": "awareness", "social_click": "awareness", "email_open": "awareness", "app_open": "awareness",
			"email_click": "interest", "sms_click": "interest", "login": "consideration", "store_visit": "consideration",
			"chat": "consideration", "cart_remove": "intent", "coupon_use": "intent", "order_tracking": "loyalty",
			"delivery_update": "loyalty", "call": "loyalty", "survey": "loyalty",
		}},
	}
}
