"""The rules of customers and subscriptions: values in, values out."""
