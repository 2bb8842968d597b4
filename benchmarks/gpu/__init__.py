"""What one card can prove, in calls of minutes that go on from one another."""
