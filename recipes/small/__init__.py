"""Every method, sized for few images: the digits that come with the library, or a folder of your own."""
