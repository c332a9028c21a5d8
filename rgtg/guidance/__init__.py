"""The guidance methods: token rules and sequence methods, each as in its paper."""
