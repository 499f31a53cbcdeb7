package main

import (
	"fmt"

	"github.com/gofiber/fiber/v2"
	"github.com/octroi/octroi/cmd/octroi/openapi"
)

// addOpenAPI serves the description of each listener on it. It holds nothing of anybody, and is for whoever can reach the listener.
func (g *gateway) addOpenAPI() error {
	for _, x := range []struct {
		app      *fiber.App
		document func() ([]byte, error)
	}{{g.public, openapi.Public}, {g.private, openapi.Private}} {
		text, err := x.document()
		if err != nil {
			return fmt.Errorf("describing the listeners: %w", err)
		}
		x.app.Get("/openapi.json", func(c *fiber.Ctx) error {
			c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
			c.Set(fiber.HeaderCacheControl, "public, max-age=300")
			c.Set(fiber.HeaderXContentTypeOptions, "nosniff")
			c.Set(fiber.HeaderAccessControlAllowOrigin, "*")
			return c.Send(text)
		})
	}
	return nil
}
